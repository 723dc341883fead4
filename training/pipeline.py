"""From a data set to a finished run: scan, extract, train, calibrate, evaluate, report, publish."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import shutil
import time
from pathlib import Path

import numpy as np

from training.engine.choose_trainer import AnyTrainer, make_trainer
from training.engine.devices import barrier, is_chief, open_strategy
from training.engine.trainer import FeatureSplit
from training.recipe import Recipe, recipe_toml
from training.report.evaluate_run import Outcome, judge, mistakes
from training.report.run_report import ReportData, write_report
from vdeploy.artifacts.run import CLASSIFIER, CLIPS, Run, toolchain, write_run
from vdeploy.artifacts.run_manifest import RunInfo, RunStage
from vdeploy.core.errors import DatasetError, RunError
from vdeploy.core.files import publish_folder, sha256_of, write_text
from vdeploy.core.locks import folder_lock
from vdeploy.core.progress import say, track
from vdeploy.core.timestamps import now
from vdeploy.dataset import Dataset, scan
from vdeploy.features.extraction import Extraction, extract_with
from vdeploy.models.weights.find import Weights
from vdeploy.video.clip_duration import median_seconds

__all__ = ["extract_source", "scan_source", "train"]

_FINGERPRINT = ".fingerprint"


def scan_source(source: Path, recipe: Recipe) -> Dataset:
    """Scans a data set with the recipe's splits and class names, showing progress."""
    with track("scan clips", None, "files") as step:
        return scan(
            source,
            positive=recipe.data.positive,
            seed=recipe.training.seed,
            split=recipe.data.split,
            on_file=lambda _done, _total: step.advance(),
        )


def extract_source(
    dataset: Dataset, recipe: Recipe, weights: Weights, store_root: Path, *, strict: bool = False
) -> Extraction:
    """Features of a data set, from the store where it has them.

    Args:
        dataset: The clips.
        recipe: Its clip and backbone sections apply.
        weights: The backbone's weights.
        store_root: Folder of all feature stores.
        strict: Refuse clips that cannot be read.
    """
    return extract_with(
        dataset,
        recipe.clip_spec,
        recipe.make_backbone(),
        weights,
        store_root,
        views=recipe.clip.views,
        strict=strict,
        memory_limit=recipe.training.memory_limit_gb * 1e9,
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
    if out.exists() and not (out / CLIPS).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise RunError(f"{out} is in the way: it is no run folder", "choose another: --out RUN")
    strategy, chief = open_strategy(recipe.training.devices), is_chief()
    dataset = scan_source(source, recipe)
    weights = recipe.make_backbone().find_weights()
    if not chief:
        barrier(strategy)
    extraction = extract_source(dataset, recipe, weights, store_root, strict=strict)
    folder = out.with_name(f"{out.name}.partial")
    if chief:
        _report_problems(extraction)
        _open_partial(folder, recipe, extraction.dataset, weights)
        barrier(strategy)
    started = time.monotonic()
    trainer = make_trainer(recipe, _split(extraction, "train"), _split(extraction, "valid"), folder, strategy)
    trainer.fit()
    seconds = {"extract": extraction.seconds, "train": time.monotonic() - started}
    if chief:
        _finish(folder, out.name, source, recipe, extraction, weights, trainer, seconds)
        publish_folder(folder, out, keep_as=out.with_name(f"{out.name}.previous"))
    barrier(strategy)
    return Run.load(out)


def _report_problems(extraction: Extraction) -> None:
    for problem in extraction.dataset.problems:
        say(f"left out: {problem.path}: {problem.reason}")
    for note in extraction.notes:
        say(f"note: {note.path}: {note.reason}")
    if extraction.dataset.problems:
        say(f"{len(extraction.dataset.problems)} files left out, {len(extraction.dataset.clips)} clips used")


def _open_partial(folder: Path, recipe: Recipe, dataset: Dataset, weights: Weights) -> None:
    """Makes the folder to work in; it is emptied if it holds the work of another recipe or of other clips."""
    content = {
        "recipe": recipe.identity,
        "clips": [dataclasses.astuple(clip) for clip in dataset.clips],
        "weights": weights.sha256,
    }
    fingerprint = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    mark = folder / _FINGERPRINT
    try:
        if folder.is_dir() and not (mark.is_file() and mark.read_text(encoding="utf-8") == fingerprint):
            say(f"train: {folder} holds work on other clips or another recipe; starting afresh")
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_text(mark, fingerprint)
    except OSError as error:
        raise RunError(
            f"cannot write to {folder} ({error.strerror or error})", "choose another folder: --out RUN"
        ) from error


def _split(extraction: Extraction, split: str) -> FeatureSplit:
    labels = np.array([clip.label for clip in extraction.dataset.of(split)], np.int64)
    if not labels.size:
        raise DatasetError(
            f"the {split} split of {extraction.dataset.root} is empty", "add clips, or see: --set data.split=[..]"
        )
    features = extraction.to_train_on() if split == "train" else extraction.of(split)
    return FeatureSplit(features, labels, np.array([clip.group for clip in extraction.dataset.of(split)], np.str_))


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
    dataset = extraction.dataset
    outcome = judge(trainer.model, extraction, recipe, trainer.held_out)
    dataset.write_csv(folder / CLIPS)
    trainer.model.save(folder / CLASSIFIER)
    info = RunInfo(
        name=name,
        created=now(),
        source=str(source.absolute()),
        classes=dataset.classes,
        violent=dataset.classes[1],
        clip=recipe.clip_spec.to_dict(),
        stages=_stages(recipe, weights, trainer, sha256_of(folder / CLASSIFIER)),
        threshold=outcome.threshold,
        temperature=outcome.calibration.temperature,
        bias=outcome.calibration.bias,
        best_epoch=trainer.best.epoch,
        seconds={part: round(value, 3) for part, value in seconds.items()},
        toolchain=toolchain(),
        clips_sha256=sha256_of(folder / CLIPS),
        split=recipe.data.split,
        seed=recipe.training.seed,
        positive=recipe.data.positive,
        threshold_interval=None if outcome.stability is None else outcome.stability.interval,
        clip_seconds=median_seconds([dataset.absolute(clip) for clip in dataset.of("train")]),
    )
    write_report(folder, _report_data(info, recipe, extraction, trainer, outcome))
    write_run(
        folder, recipe_toml(recipe), info, {split: figures.to_dict() for split, figures in outcome.evaluations.items()}
    )


def _stages(recipe: Recipe, weights: Weights, trainer: AnyTrainer, sha256: str) -> tuple[RunStage, ...]:
    backbone, head = recipe.make_backbone(), recipe.make_head()
    return (
        RunStage(
            id="extractor",
            architecture=backbone.name,
            settings={**backbone.stage_settings, "weights": weights.source},
            output=backbone.feature_shape(recipe.clip.frames),
            parameters=None,
            sha256=weights.sha256,
        ),
        RunStage(
            id="classifier",
            architecture=head.name,
            settings=head.stage_settings,
            output=(2,),
            parameters=int(trainer.model.count_params()),
            sha256=sha256,
            file=CLASSIFIER,
        ),
    )


def _report_data(
    info: RunInfo, recipe: Recipe, extraction: Extraction, trainer: AnyTrainer, outcome: Outcome
) -> ReportData:
    dataset, split = extraction.dataset, outcome.best_split
    return ReportData(
        name=info.name,
        evaluation=outcome.evaluations[split],
        labels=np.array([clip.label for clip in dataset.of(split)]),
        probabilities=outcome.probabilities[split],
        split=split,
        tuned_on_split=split == "valid" and trainer.held_out is None,
        threshold_rule=_rule(recipe, trainer),
        calibration=outcome.calibration,
        uncalibrated=outcome.uncalibrated[split],
        classes=dataset.classes,
        created=info.created,
        counts=dataset.counts(),
        problems=[f"{problem.path}: {problem.reason}" for problem in (*dataset.problems, *extraction.notes)],
        recipe=recipe.model_dump(mode="json"),
        history=[dataclasses.asdict(record) for record in trainer.history],
        best_epoch=info.best_epoch,
        mistakes=mistakes(outcome, dataset, recipe),
        environment=info.toolchain,
        notes=[] if outcome.stability is None else [outcome.stability.in_words(recipe.decision.prior_threshold)],
    )


def _rule(recipe: Recipe, trainer: AnyTrainer) -> str:
    chosen_on = "the validation split" if trainer.held_out is None else "held-out sources of the training split"
    return recipe.decision.rule_on(chosen_on)
