"""Clips that the run did not learn from: what the reference says of them, and what an artifact says instead."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vdeploy.artifacts.bundle.manifest import HeldOut
from vdeploy.artifacts.run import Run
from vdeploy.core.errors import ExportError, ParityError
from vdeploy.dataset import Dataset, LabelledClip
from vdeploy.evaluation.metrics import evaluate
from vdeploy.export.calibration import recorded_clips
from vdeploy.export.decoded_clips import DecodedClips
from vdeploy.features.extraction import extract_dataset, feature_key
from vdeploy.features.store import FeatureStore
from vdeploy.formats import MAX_ACCURACY_LOSS, MIN_AGREEMENT, Format

if TYPE_CHECKING:
    import numpy.typing as npt

    from vdeploy.export.verification.reference import Reference

__all__ = ["HeldOutClips", "alternate", "check_verdicts", "find_clips"]

_FEWEST_FOR_SHARES = 100
"""Below this, one clip weighs more than the shares that are allowed, so a single one is let pass."""


def find_clips(run: Run, data: Path | None) -> Dataset | None:
    """The clips that a run was trained on.

    Args:
        run: The run.
        data: Where they lie now; ``None`` for where they lay then.

    Returns:
        The clips with their splits; ``None`` if they are not where they lay.

    Raises:
        ExportError: They are not in ``data``.
    """
    dataset = recorded_clips(run, data or Path(run.info.source))
    if all(dataset.absolute(clip).is_file() for clip in dataset.clips):
        return dataset
    if data is None:
        return None
    missing = next(clip for clip in dataset.clips if not dataset.absolute(clip).is_file())
    raise ExportError(f"{data} does not hold the clips of {run.root}: {missing.path} is missing", "check --data")


class HeldOutClips:
    """Held-out clips, those of the test split if there is one, else of the validation split.

    Classes alternate, so that the first few clips are a fair choice.

    Args:
        dataset: The clips of the run.
        reference: The run in Keras.
        store_root: Folder of all feature stores; what is missing there is extracted.
        limit: How many clips; ``None`` for all.
        decoded: Decodes them; if left out, nothing is kept.

    Attributes:
        split: Their split.
        labels: ``int64[N]``.
        features: ``float32[N, T, F]``, the reference's, as precise as the feature store keeps them.
        probabilities: ``float32[N]`` of violence, the reference's.
        threshold: Probability from which a clip counts as violent.
    """

    def __init__(
        self,
        dataset: Dataset,
        reference: Reference,
        store_root: Path,
        limit: int | None,
        decoded: DecodedClips | None = None,
    ) -> None:
        self.split = "test" if dataset.of("test") else "valid"
        chosen = alternate(dataset.of(self.split))[:limit]
        spec, backbone, weights = reference.spec, reference.run.backbone, reference.weights
        extraction = extract_dataset(
            dataclasses.replace(dataset, clips=tuple(chosen), problems=()),
            spec,
            FeatureStore(store_root, feature_key(spec, backbone, weights)),
            lambda: reference.extractor,
        )
        self._dataset = extraction.dataset
        self._decoded = decoded or DecodedClips(spec)
        self.threshold = reference.run.info.threshold
        self.labels = np.array([clip.label for clip in self._dataset.clips], np.int64)
        self.features: npt.NDArray[np.float32] = extraction.features[:].astype(np.float32)
        self.probabilities: npt.NDArray[np.float32] = reference.compute("classifier", self.features)[:, 1]

    def __len__(self) -> int:
        return len(self.labels)

    def frames(self, count: int) -> Iterator[npt.NDArray[np.uint8]]:
        """Hands out the first clips, one after the other: ``uint8[T, H, W, 3]`` each."""
        return self._decoded.read([self._dataset.absolute(clip) for clip in self._dataset.clips[:count]])

    def judge(self, probabilities: npt.NDArray[np.floating[Any]]) -> HeldOut:
        """Compares an artifact's verdicts with the reference's on the first clips.

        Args:
            probabilities: ``float[M]`` of violence, M at most N.
        """
        count = len(probabilities)
        labels, reference = self.labels[:count], self.probabilities[:count].astype(np.float64)
        found = probabilities.astype(np.float64).clip(0, 1)
        drift = np.abs(found - reference)
        mine = evaluate(labels, found, threshold=self.threshold)
        theirs = evaluate(labels, reference, threshold=self.threshold, bootstrap=0)
        return HeldOut(
            split=self.split,
            clips=count,
            threshold=self.threshold,
            agreement=float(np.mean((found >= self.threshold) == (reference >= self.threshold))),
            drift_mean=float(drift.mean()),
            drift_p99=float(np.percentile(drift, 99)),
            drift_max=float(drift.max()),
            accuracy=mine.accuracy,
            accuracy_interval=mine.intervals["accuracy"],
            reference_accuracy=theirs.accuracy,
            roc_auc=mine.roc_auc,
            roc_auc_interval=mine.intervals.get("roc_auc"),
            reference_roc_auc=theirs.roc_auc,
            probabilities=tuple(round(float(value), 6) for value in found),
            reference=tuple(round(float(value), 6) for value in reference),
        )


def check_verdicts(kind: Format, what: str, held_out: HeldOut) -> None:
    """Refuses an artifact that flips verdicts or loses accuracy.

    Args:
        kind: The format, for the message.
        what: What was judged, for the message.
        held_out: Its verdicts.

    Raises:
        ParityError: Too many verdicts differ from the reference's, or too many right ones were lost.
    """
    clips = held_out.clips
    flips = round((1 - held_out.agreement) * clips)
    lost = round((held_out.reference_accuracy - held_out.accuracy) * clips)
    evidence = {"held_out": held_out.model_dump(mode="json")}
    if flips > _allowed(1 - MIN_AGREEMENT, clips):
        raise ParityError(
            f"{kind.name}: {what} gives {flips} of {clips} held-out clips another verdict than Keras, "
            f"agreement {held_out.agreement:.1%}, less than {MIN_AGREEMENT:.0%}",
            "try more calibration clips, or another format",
            evidence=evidence,
        )
    if lost > _allowed(MAX_ACCURACY_LOSS, clips):
        raise ParityError(
            f"{kind.name}: {what} has accuracy {held_out.accuracy:.1%} on {clips} held-out clips, "
            f"Keras {held_out.reference_accuracy:.1%}, and {MAX_ACCURACY_LOSS:.1%} may be lost",
            "try more calibration clips, or another format",
            evidence=evidence,
        )


def _allowed(share: float, clips: int) -> int:
    return math.floor(share * clips + 1e-9) if clips >= _FEWEST_FOR_SHARES else 1


def alternate(clips: Sequence[LabelledClip]) -> list[LabelledClip]:
    """Puts clips into a drawn order, the same every time, in which the classes alternate."""
    random = np.random.default_rng(0)
    classes = [[clip for clip in clips if clip.label == label] for label in (0, 1)]
    shuffled = [[group[index] for index in random.permutation(len(group))] for group in classes]
    pairs = itertools.zip_longest(*shuffled)
    return [clip for pair in pairs for clip in pair if clip is not None]
