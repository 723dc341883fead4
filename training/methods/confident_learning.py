"""Confident learning: training clips whose labels are probably wrong, by a classifier that has not learned from them.

Northcutt, Jiang & Chuang 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels". A clip is suspicious
where it is counted off the diagonal of the confident joint (eq. 1): a cross-fitted classifier is at least as confident
of the other class as it is on average of the clips that bear that label, and does not prefer the clip's own.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from training.engine.epoch_plan import FeatureSplit
from training.methods.teacher import teacher_probabilities
from training.recipe import Recipe
from vdeploy.core.errors import DatasetError
from vdeploy.core.progress import say

if TYPE_CHECKING:
    import numpy.typing as npt

    Clips = npt.NDArray[np.int64]
    Floats = npt.NDArray[np.float64]

__all__ = ["LABEL_NOISE", "LabelAudit", "audit_labels", "class_confidences", "suspicious_labels"]

LABEL_NOISE = "label-noise.npy"
"""File of a run folder with the probabilities that the labels are judged by."""


@dataclasses.dataclass(frozen=True)
class LabelAudit:
    """What confident learning has found in a training split.

    Attributes:
        probabilities: Of violence, each from classifiers that have learned from other sources, ``float64[N]``.
        suspicious: Numbers of the clips whose labels are probably wrong, the least probable label first.
        dropped: Whether the training leaves them out.
    """

    probabilities: Floats
    suspicious: Clips
    dropped: bool

    @property
    def kept(self) -> Clips:
        """Numbers of the clips that are learned from, ascending."""
        clips = np.arange(len(self.probabilities))
        return np.setdiff1d(clips, self.suspicious) if self.dropped else clips


def audit_labels(recipe: Recipe, train: FeatureSplit, folder: Path, strategy: Any) -> LabelAudit:
    """Look for wrong labels.

    Args:
        recipe: Its section ``label_noise`` and the seed apply.
        train: The training split, with clips of both classes.
        folder: Run folder, which keeps the probabilities for a training that is interrupted.
        strategy: What `training.engine.devices.open_strategy` gave.

    Raises:
        DatasetError: There are too few clips or sources of a class, or a classifier cannot tell the classes.
        RunError: The run folder cannot be written.
    """
    probabilities = teacher_probabilities(
        train,
        folder / LABEL_NOISE,
        seed=recipe.training.seed,
        otherwise='label_noise.action = "none"',
        strategy=strategy,
    )
    # Above 1, clips of both classes are left: were all clips that bear a label suspicious, the sum would be at most 1.
    if class_confidences(train.labels, probabilities).sum() <= 1:
        raise DatasetError(
            "the labels cannot be judged: a classifier that has learned from other sources does not tell the classes",
            'add clips or sources, or set label_noise.action = "none"',
        )
    suspicious = suspicious_labels(train.labels, probabilities)
    say(f"label noise: {len(suspicious)} of {len(train.labels)} training clips have labels that are probably wrong")
    return LabelAudit(probabilities, suspicious, dropped=recipe.label_noise.action == "drop")


def class_confidences(labels: Clips, probabilities: Floats) -> Floats:
    """The mean probability of each class among the clips that bear its label (eq. 2), ``float64[2]``.

    Args:
        labels: 0 or 1, ``int64[N]``; both occur.
        probabilities: Of violence, from classifiers that have not learned from the clip, ``float64[N]``.
    """
    return np.array([(1 - probabilities)[labels == 0].mean(), probabilities[labels == 1].mean()])


def suspicious_labels(labels: Clips, probabilities: Floats) -> Clips:
    """The clips off the diagonal of the confident joint (eq. 1), worst label first.

    Args:
        labels: 0 or 1, ``int64[N]``; both occur.
        probabilities: Of violence, from classifiers that have not learned from the clip, ``float64[N]``.
    """
    both = np.stack([1 - probabilities, probabilities], axis=1)
    confident = both >= class_confidences(labels, probabilities)
    # A clip that is confidently of both classes counts for the likelier one, and one that is of neither does not count.
    counted = np.where(confident, both, -1.0).argmax(axis=1)
    wrong = np.flatnonzero(confident.any(axis=1) & (counted != labels))
    confidence = np.where(labels == 1, probabilities, 1 - probabilities)
    return wrong[np.argsort(confidence[wrong], kind="stable")]
