"""From a data set to a finished run: scan, extract, train, calibrate, evaluate, report, publish."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np

from training.engine.choose_trainer import AnyTrainer, make_trainer
from training.engine.devices import barrier, is_chief, open_strategy
from training.engine.trainer import FeatureSplit
from training.methods.distillation.lesson import Lesson, prepare_lesson
from training.methods.fine_tuning import trunk_of
from training.recipe import Recipe
from training.report.evaluate_run import judge
from training.report.run_folder import FinishedTraining, write_backbone, write_run_folder
from training.work_folder import open_partial, partial_folder, publish_run, refuse_foreign_folder
from vdeploy.artifacts.run import Run
from vdeploy.core.errors import DatasetError
from vdeploy.core.locks import folder_lock
from vdeploy.core.progress import say, track
from vdeploy.dataset import Dataset, scan
from vdeploy.features.extraction import Extraction, extract_with
from vdeploy.models.trunk import Trunk
from vdeploy.models.weights.find import Weights
from vdeploy.video.clip_duration import median_seconds

__all__ = [
    "TrainedBlocks",
    "extract_source",
    "report_problems",
    "scan_source",
    "train",
    "train_on",
]


@dataclasses.dataclass(frozen=True, eq=False)
class TrainedBlocks:
    """What `train_on` needs to train blocks of a backbone.

    Attributes:
        trunk: The backbone, and what is left as it is.
        store_root: Folder of all feature stores, for the features after the training.
    """

    trunk: Trunk
    store_root: Path


def scan_source(source: Path, recipe: Recipe) -> Dataset:
    """Scans a data set with the recipe's splits and class names, showing progress."""
    with track("scan clips", None, "files") as step:
        return scan(
            source,
            positive=recipe.data.positive,
            seed=recipe.split_seed,
            split=recipe.data.split,
            on_file=lambda _done, _total: step.advance(),
        )


def extract_source(
    dataset: Dataset,
    recipe: Recipe,
    weights: Weights,
    store_root: Path,
    *,
    strict: bool = False,
    trunk: Trunk | None = None,
) -> Extraction:
    """Features of a data set, from the store where it has them.

    Args:
        dataset: The clips.
        recipe: Its clip and backbone sections apply.
        weights: The backbone's weights.
        store_root: Folder of all feature stores.
        strict: Refuse clips that cannot be read.
        trunk: Take its activations instead of the backbone's features; they are large and stay on the disk.
    """
    return extract_with(
        dataset,
        recipe.clip_spec,
        trunk or recipe.make_backbone(),
        weights,
        store_root,
        views=recipe.views,
        strict=strict,
        memory_limit=0 if trunk else recipe.training.memory_limit_gb * 1e9,
    )


def train(source: Path, out: Path, recipe: Recipe, *, store_root: Path, strict: bool = False) -> Run:
    """Trains a classifier on a folder or CSV of labelled clips.

    Work goes on in ``OUT.partial`` and takes the place of ``OUT`` when it is finished; an older finished run there is
    kept as ``OUT.previous``. An interrupted training with the same clips and recipe goes on where it stopped.

    Of several workers that ``TF_CONFIG`` names, which share the clips, the store and the run folder, all train; the
    first one extracts features and writes.

    Args:
        source: The data set.
        out: The run folder.
        recipe: Every choice.
        store_root: Folder of all feature stores.
        strict: Refuse clips that cannot be read instead of leaving them out.

    Returns:
        The finished run.

    Raises:
        LockedError: Another training writes there.
        UserError: The data, the weights, the recipe or the disk do not allow it.
    """
    with folder_lock(out, "choose another --out") if is_chief() else contextlib.nullcontext():
        return _train(source, out, recipe, store_root, strict=strict)


def _train(source: Path, out: Path, recipe: Recipe, store_root: Path, *, strict: bool) -> Run:
    refuse_foreign_folder(out)
    strategy, chief = open_strategy(recipe.training.devices), is_chief()
    dataset = scan_source(source, recipe)
    weights = recipe.make_backbone().find_weights()
    if not chief:
        barrier(strategy)
    trunk = trunk_of(recipe, weights)
    extraction = extract_source(dataset, recipe, weights, store_root, strict=strict, trunk=trunk)
    if chief:
        report_problems(extraction)
    lesson = prepare_lesson(recipe, extraction.dataset, weights, store_root)
    blocks = None if trunk is None else TrainedBlocks(trunk, store_root)
    return train_on(extraction, weights, source, out, recipe, strategy, lesson, blocks)


def train_on(
    extraction: Extraction,
    weights: Weights,
    source: Path,
    out: Path,
    recipe: Recipe,
    strategy: Any = None,
    lesson: Lesson | None = None,
    blocks: TrainedBlocks | None = None,
) -> Run:
    """Train on features that were extracted; the part of `train` that comes after the extraction.

    Args:
        extraction: Features of all clips.
        weights: The backbone's weights.
        source: The data set.
        out: The run folder, which no other process writes.
        recipe: Every choice.
        strategy: What `training.engine.devices.open_strategy` gave; called here if left out.
        lesson: What the recipe's teacher says, if it names one.
        blocks: What is trained of the backbone, if anything; the features are then activations of its trunk.

    Raises:
        UserError: The data, the recipe or the disk do not allow it.
    """
    strategy, chief = strategy or open_strategy(recipe.training.devices), is_chief()
    folder = partial_folder(out)
    if chief:
        open_partial(folder, recipe, extraction.dataset, weights, lesson=lesson)
        barrier(strategy)
    started = time.monotonic()
    train, valid = _split(extraction, "train"), _split(extraction, "valid")
    if lesson is not None:
        train = dataclasses.replace(train, soft=lesson.soft)
    trunk, unlabelled = None if blocks is None else blocks.trunk, lesson.unlabelled if lesson else None
    trainer = make_trainer(recipe, train, valid, folder, strategy, unlabelled, trunk)
    trainer.fit()
    seconds = {"extract": extraction.seconds, "train": time.monotonic() - started}
    if chief:
        if blocks is not None:
            extraction, weights = _with_trained_blocks(blocks, folder, extraction, weights, recipe)
            seconds["extract"] += extraction.seconds
        _finish(folder, out.name, source, recipe, extraction, weights, trainer, seconds)
        publish_run(folder, out)
    barrier(strategy)
    return Run.load(out)


def _with_trained_blocks(
    blocks: TrainedBlocks, folder: Path, extraction: Extraction, weights: Weights, recipe: Recipe
) -> tuple[Extraction, Weights]:
    """Write the backbone, and extract the features that it has now: those that an export is compared with."""
    tuned = write_backbone(folder, blocks.trunk.network, weights)
    limit = recipe.training.memory_limit_gb * 1e9
    backbone, store = recipe.fine_tuned_backbone(), blocks.store_root
    return extract_with(extraction.dataset, recipe.clip_spec, backbone, tuned, store, memory_limit=limit), tuned


def _finish(
    folder: Path,
    name: str,
    source: Path,
    recipe: Recipe,
    extraction: Extraction,
    weights: Weights,
    trainer: AnyTrainer,
    seconds: dict[str, float],
) -> None:
    dataset, audit = extraction.dataset, trainer.audit
    kept = None if audit is None else audit.kept
    finished = FinishedTraining(
        name=name,
        source=source,
        recipe=recipe,
        extraction=extraction,
        weights=weights,
        model=trainer.head,
        outcome=judge(trainer.head, extraction, recipe, trainer.held_out, kept),
        seconds=seconds,
        history=trainer.history,
        best_epoch=trainer.best.epoch,
        clip_seconds=median_seconds([dataset.absolute(clip) for clip in dataset.of("train")]),
        audit=audit,
    )
    write_run_folder(folder, finished)


def report_problems(extraction: Extraction) -> None:
    """Print which files were left out, and what is odd about others."""
    for problem in extraction.dataset.problems:
        say(f"left out: {problem.path}: {problem.reason}")
    for note in extraction.notes:
        say(f"note: {note.path}: {note.reason}")
    if extraction.dataset.problems:
        say(f"{len(extraction.dataset.problems)} files left out, {len(extraction.dataset.clips)} clips used")


def _split(extraction: Extraction, split: str) -> FeatureSplit:
    labels = np.array([clip.label for clip in extraction.dataset.of(split)], np.int64)
    if not labels.size:
        raise DatasetError(
            f"the {split} split of {extraction.dataset.root} is empty", "add clips, or see: --set data.split=[..]"
        )
    features = extraction.to_train_on() if split == "train" else extraction.of(split)
    return FeatureSplit(features, labels, np.array([clip.group for clip in extraction.dataset.of(split)], np.str_))
