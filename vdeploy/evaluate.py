"""Evaluation of a run or a bundle on labelled clips."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from vdeploy.artifacts.bundle import MANIFEST, Bundle
from vdeploy.artifacts.run import MANIFEST as RUN_MANIFEST
from vdeploy.artifacts.run import Run
from vdeploy.core.errors import ClipError, DatasetError, RunError
from vdeploy.core.locks import settle_folder
from vdeploy.core.progress import track
from vdeploy.dataset import Dataset, LabelledClip, Problem, scan
from vdeploy.evaluation.metrics import Evaluation
from vdeploy.evaluation.metrics import evaluate as measure
from vdeploy.features.extraction import extract_with
from vdeploy.features.prediction import predict
from vdeploy.inference.in_process import LocalScorer
from vdeploy.video.workers.clips import decode_clips

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Augmentation", "AugmentationCost", "Result", "evaluate_on"]

Augmentation = Literal["none", "mirror"]


@dataclasses.dataclass(frozen=True)
class AugmentationCost:
    """What test-time augmentation costs: scoring alone, without decoding.

    Attributes:
        clips_per_second: With it.
        clips_per_second_without: Without it, for the same clips in turns.
    """

    clips_per_second: float
    clips_per_second_without: float


@dataclasses.dataclass(frozen=True)
class Result:
    """Result of an evaluation.

    Attributes:
        evaluation: The metrics.
        problems: Clips that were left out.
        probabilities: Probability of violence by clip path.
        augmentation_cost: What test-time augmentation costs; ``None`` without it.
    """

    evaluation: Evaluation
    problems: tuple[Problem, ...]
    probabilities: dict[str, float]
    augmentation_cost: AugmentationCost | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        cost = self.augmentation_cost
        return {
            **self.evaluation.to_dict(),
            **({} if cost is None else {"test_time_augmentation": dataclasses.asdict(cost)}),
            "left_out": [dataclasses.asdict(problem) for problem in self.problems],
            "probabilities": self.probabilities,
        }


def evaluate_on(
    subject: Path,
    source: Path,
    *,
    split: str,
    positive: Sequence[str],
    store_root: Path,
    strict: bool = False,
    format_name: str | None = None,
    tta: Augmentation = "none",
) -> Result:
    """Evaluates a run in Keras, or a bundle in the runtime of one of its formats.

    Args:
        subject: Folder of a run or of a bundle.
        source: Labelled clips.
        split: ``"train"``, ``"valid"``, ``"test"`` or ``"all"``. Where the data set has no splits, those of the
            run are drawn again; for a bundle, those of the defaults.
        positive: Names of the class that means violence, if the run does not name it.
        store_root: Folder of all feature stores; a bundle does not use it.
        strict: Refuse clips that cannot be used instead of leaving them out.
        format_name: Format of the bundle to run; the first that it holds by default.
        tta: Test-time augmentation of a bundle: ``"mirror"`` averages the probabilities of each clip and of its mirror
            image (Krizhevsky et al. 2012, "ImageNet Classification with Deep Convolutional Neural Networks", sec. 4.1).

    Raises:
        DatasetError: No clip of the split can be used.
        RunError: The subject is no run, was swapped with the clips, or is a run although a format or test-time
            augmentation was given.
        BundleError: The subject is no bundle, or does not hold the format.
    """
    if split not in ("train", "valid", "test", "all"):
        raise DatasetError(f"there is no split {split!r}", "choose train, valid, test or all")
    if not _is_trained(subject) and _is_trained(source):
        raise RunError(f"{source} holds no clips but a model, which comes first", "swap it with the clips")
    cost = None
    if (subject / MANIFEST).is_file():
        bundle = Bundle(subject)
        dataset = _choose(scan(source, positive=positive), split, strict=strict)
        mirror = tta == "mirror"
        (labels, scores, clips, problems), cost = _score_bundle(
            bundle, dataset, format_name, strict=strict, mirror=mirror
        )
        threshold = bundle.manifest.threshold
    else:
        run = Run.load(subject)
        if format_name is not None:
            raise RunError(
                f"{subject} is a run, which ignores --format: Keras runs it", "give its bundle, or leave it out"
            )
        if tta != "none":
            raise RunError(
                f"{subject} is a run, which is evaluated from stored features of the clips as they are",
                "give its bundle, or leave --tta out",
            )
        names = tuple(positive) or run.info.positive
        scanned = scan(source, positive=names, seed=run.info.seed, split=run.info.split)
        dataset = _choose(scanned, split, strict=strict)
        labels, scores, clips, problems = _score_run(run, dataset, store_root, strict=strict)
        threshold = run.info.threshold
    groups = [clip.group for clip in clips] if any(clip.group for clip in clips) else None
    evaluation = measure(labels, scores, threshold=threshold, groups=groups)
    probabilities = {clip.path: float(score) for clip, score in zip(clips, scores, strict=True)}
    return Result(evaluation, problems, probabilities, cost)


def _is_trained(folder: Path) -> bool:
    settle_folder(folder)
    return (folder / MANIFEST).is_file() or (folder / RUN_MANIFEST).is_file()


_Scored = tuple["npt.NDArray[np.int64]", "npt.NDArray[np.float32]", Sequence[LabelledClip], tuple[Problem, ...]]


def _choose(dataset: Dataset, split: str, *, strict: bool) -> Dataset:
    if strict and dataset.problems:
        first = dataset.problems[0]
        raise DatasetError(
            f"{dataset.root / first.path}: {first.reason}", "replace or remove it, or leave --strict out"
        )
    clips = dataset.clips if split == "all" else dataset.of(split)
    if not clips:
        raise DatasetError(f"the {split} split of {dataset.root} is empty", "choose another: --split")
    return dataclasses.replace(dataset, clips=tuple(clips))


def _score_run(run: Run, dataset: Dataset, store_root: Path, *, strict: bool) -> _Scored:
    extraction = extract_with(dataset, run.spec, run.backbone, run.weights(), store_root, strict=strict)
    scores = predict(run.classifier(), extraction.features)[:, 1]
    clips = extraction.dataset.clips
    return _labels(clips), scores, clips, extraction.dataset.problems


def _score_bundle(
    bundle: Bundle, dataset: Dataset, format_name: str | None, *, strict: bool, mirror: bool
) -> tuple[_Scored, AugmentationCost | None]:
    scorer = LocalScorer(bundle, format_name)
    used: list[LabelledClip] = []
    scores: list[float] = []
    seconds = [0.0, 0.0]
    if mirror:  # the first inference is slower than the others
        scorer.score(np.zeros((1, scorer.spec.frames, scorer.spec.size, scorer.spec.size, 3), np.uint8))
    problems = list(dataset.problems)
    paths = [dataset.absolute(clip) for clip in dataset.clips]
    with track("score clips", len(paths), "clips") as step:
        for clip, (_, outcome) in zip(dataset.clips, decode_clips(paths, scorer.spec), strict=True):
            if isinstance(outcome, ClipError):
                if strict:
                    raise DatasetError(str(outcome), "replace or remove it, or leave --strict out")
                problems.append(Problem(clip.path, outcome.reason))
            else:
                used.append(clip)
                views = [outcome.frames]
                if mirror:
                    views.append(np.ascontiguousarray(outcome.frames[:, :, ::-1]))
                found = []
                for number, frames in enumerate(views):
                    started = time.perf_counter()
                    found.append(float(scorer.score(frames[np.newaxis])[0, 1]))
                    seconds[number] += time.perf_counter() - started
                scores.append(sum(found) / len(found))
            step.advance()
    if not used:
        raise DatasetError(f"none of the {len(paths)} clips in {dataset.root} can be read", "see: vdeploy data scan")
    cost = AugmentationCost(len(used) / sum(seconds), len(used) / seconds[0]) if mirror else None
    return (_labels(used), np.asarray(scores, np.float32), used, tuple(problems)), cost


def _labels(clips: Sequence[LabelledClip]) -> npt.NDArray[np.int64]:
    return np.array([clip.label for clip in clips], np.int64)
