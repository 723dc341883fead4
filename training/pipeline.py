"""From a data set to a finished run: scan, extract, train, calibrate, evaluate, report, publish."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from training.calibration import apply_temperature, fit_temperature
from training.clips import read_clip
from training.dataset import Dataset, LabelledClip, scan
from training.errors import ClipError, DatasetError, RunError
from training.evaluation import Evaluation, choose_threshold, evaluate
from training.extractor import FeatureExtractor
from training.feature_store import FeatureStore
from training.features import Extraction, extract_dataset, feature_key
from training.files import publish_folder, sha256_of, write_text
from training.progress import say, track
from training.recipe import Recipe
from training.report import Mistake, ReportData, write_report
from training.run import CLASSIFIER, CLIPS, Run, RunInfo, toolchain, write_run
from training.trainer import FeatureSplit, Trainer, predict
from training.weights import Weights, find_weights

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["extract_source", "scan_source", "train"]

_MISTAKES_SHOWN = 12
_FINGERPRINT = ".fingerprint"
_LOWEST_TEMPERATURE, _HIGHEST_TEMPERATURE = 0.5, 10.0


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
        recipe: Clip and feature sections apply.
        weights: VGG19's weights.
        store_root: Folder of all feature stores.
        strict: Refuse clips that cannot be read.
    """
    spec, layer = recipe.clip_spec, recipe.features.layer
    return extract_dataset(
        dataset,
        spec,
        FeatureStore(store_root, feature_key(spec, layer, weights)),
        lambda: FeatureExtractor(layer, weights, size=spec.size),
        strict=strict,
    )


def train(source: Path, out: Path, recipe: Recipe, *, store_root: Path, strict: bool = False) -> Run:
    """Trains a classifier on a folder or CSV of labelled clips.

    Work goes on in ``OUT.partial`` and takes the place of ``OUT`` when it is finished; an older finished run there is
    kept as ``OUT.previous``. An interrupted training with the same clips and recipe goes on where it stopped.

    Args:
        source: The data set.
        out: The run folder.
        recipe: Every choice.
        store_root: Folder of all feature stores.
        strict: Refuse clips that cannot be read instead of leaving them out.

    Returns:
        The finished run.

    Raises:
        UserError: The data, the weights, the recipe or the disk do not allow it.
    """
    if out.exists() and not (out / CLIPS).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise RunError(f"{out} is in the way: it is no run folder", "choose another: --out RUN")
    dataset = scan_source(source, recipe)
    weights = find_weights(recipe.features.weights, recipe.features.layer, seed=recipe.training.seed)
    extraction = extract_source(dataset, recipe, weights, store_root, strict=strict)
    dataset = extraction.dataset
    _report_problems(extraction)
    folder = _open_partial(out, recipe, dataset, weights)
    started = time.monotonic()
    trainer = Trainer(recipe, _split(extraction, "train"), _split(extraction, "valid"), folder)
    trainer.fit()
    seconds = {"extract": extraction.seconds, "train": time.monotonic() - started}
    dataset.write_csv(folder / CLIPS)
    _finish(folder, out.name, source, recipe, extraction, weights, trainer, seconds)
    publish_folder(folder, out, keep_as=out.with_name(f"{out.name}.previous"))
    return Run.load(out)


def _report_problems(extraction: Extraction) -> None:
    for problem in extraction.dataset.problems:
        say(f"left out: {problem.path}: {problem.reason}")
    for note in extraction.notes:
        say(f"note: {note.path}: {note.reason}")
    if extraction.dataset.problems:
        say(f"{len(extraction.dataset.problems)} files left out, {len(extraction.dataset.clips)} clips used")


def _open_partial(out: Path, recipe: Recipe, dataset: Dataset, weights: Weights) -> Path:
    """The folder to work in; it is emptied if it holds the work of another recipe or of other clips."""
    content = {
        "recipe": recipe.model_dump(mode="json"),
        "clips": [dataclasses.astuple(clip) for clip in dataset.clips],
        "weights": weights.sha256,
    }
    fingerprint = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    folder = out.with_name(f"{out.name}.partial")
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
    return folder


def _rows(extraction: Extraction, split: str) -> npt.NDArray[np.intp]:
    return np.flatnonzero([clip.split == split for clip in extraction.dataset.clips])


def _split(extraction: Extraction, split: str) -> FeatureSplit:
    rows = _rows(extraction, split)
    if not rows.size:
        raise DatasetError(
            f"the {split} split of {extraction.dataset.root} is empty", "add clips, or see: --set data.split=[..]"
        )
    labels = np.array([clip.label for clip in extraction.dataset.of(split)], np.int64)
    return FeatureSplit(extraction.features[rows], labels)


def _finish(
    folder: Path,
    name: str,
    source: Path,
    recipe: Recipe,
    extraction: Extraction,
    weights: Weights,
    trainer: Trainer,
    seconds: dict[str, float],
) -> None:
    dataset = extraction.dataset
    valid = _split(extraction, "valid")
    uncalibrated = predict(trainer.model, valid.features)[:, 1]
    temperature = float(np.clip(fit_temperature(valid.labels, uncalibrated), _LOWEST_TEMPERATURE, _HIGHEST_TEMPERATURE))
    _divide_logits(trainer.model, temperature)
    probabilities = apply_temperature(uncalibrated, temperature)
    rule = recipe.decision.threshold
    threshold = choose_threshold(valid.labels, probabilities, by=rule) if isinstance(rule, str) else rule
    evaluations: dict[str, Evaluation] = {}
    for split in ("train", "valid", "test"):
        clips = dataset.of(split)
        if clips:
            scores = predict(trainer.model, extraction.features[_rows(extraction, split)])[:, 1]
            labels = np.array([clip.label for clip in clips], np.int64)
            groups = [clip.group for clip in clips] if any(clip.group for clip in clips) else None
            evaluations[split] = evaluate(labels, scores, threshold=threshold, groups=groups)
    trainer.model.save(folder / CLASSIFIER)
    best = max(trainer.history, key=lambda record: (record.rank, -record.epoch)).epoch
    info = RunInfo(
        name=name,
        created=datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        source=str(source.absolute()),
        classes=dataset.classes,
        weights_sha256=weights.sha256,
        classifier_sha256=sha256_of(folder / CLASSIFIER),
        threshold=threshold,
        temperature=temperature,
        best_epoch=best,
        seconds={part: round(value, 3) for part, value in seconds.items()},
        toolchain=toolchain(),
    )
    _write_report(folder, info, recipe, extraction, trainer, evaluations["valid"], uncalibrated, probabilities)
    write_run(folder, recipe, info, {split: evaluation.to_dict() for split, evaluation in evaluations.items()})


def _divide_logits(model: Any, temperature: float) -> None:
    """Builds the temperature into the last layer, so that every export of the classifier is calibrated by itself."""
    layer = model.get_layer("logits")
    layer.set_weights([weight / temperature for weight in layer.get_weights()])


def _write_report(
    folder: Path,
    info: RunInfo,
    recipe: Recipe,
    extraction: Extraction,
    trainer: Trainer,
    evaluation: Evaluation,
    uncalibrated: npt.NDArray[np.float32],
    probabilities: npt.NDArray[Any],
) -> None:
    dataset = extraction.dataset
    clips = dataset.of("valid")
    rule = recipe.decision.threshold
    write_report(
        folder,
        ReportData(
            name=info.name,
            evaluation=evaluation,
            labels=np.array([clip.label for clip in clips]),
            probabilities=probabilities,
            threshold_rule="highest F1 on the validation split" if isinstance(rule, str) else "set in the recipe",
            temperature=info.temperature,
            uncalibrated=uncalibrated,
            classes=dataset.classes,
            created=info.created,
            counts=dataset.counts(),
            problems=[f"{problem.path}: {problem.reason}" for problem in (*dataset.problems, *extraction.notes)],
            recipe=recipe.model_dump(mode="json"),
            history=[dataclasses.asdict(record) for record in trainer.history],
            best_epoch=info.best_epoch,
            mistakes=_mistakes(dataset, clips, probabilities, info.threshold, recipe),
            environment=info.toolchain,
        ),
    )


def _mistakes(
    dataset: Dataset,
    clips: Sequence[LabelledClip],
    probabilities: npt.NDArray[Any],
    threshold: float,
    recipe: Recipe,
) -> list[Mistake]:
    wrong = [
        (abs(probability - threshold), clip, float(probability))
        for clip, probability in zip(clips, probabilities, strict=True)
        if (probability >= threshold) != bool(clip.label)
    ]
    wrong.sort(key=lambda entry: -entry[0])
    shown: list[Mistake] = []
    for _, clip, probability in wrong[:_MISTAKES_SHOWN]:
        try:
            frames = read_clip(dataset.absolute(clip), recipe.clip_spec).frames
        except ClipError:
            continue
        shown.append((clip.path, clip.label, probability, frames))
    return shown
