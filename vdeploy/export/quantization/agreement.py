"""Does a candidate still say what the reference says? Features and verdicts on clips that it was not calibrated on."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from vdeploy.export.cosines import row_cosines
from vdeploy.formats import MAX_ACCURACY_LOSS, MAX_TURN, MIN_AGREEMENT

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Agreement", "measure_agreement"]

_TURN = 0.5 * MAX_TURN
"""What a search allows a row to turn: half of what the proof that follows allows on other clips."""


@dataclasses.dataclass(frozen=True)
class Agreement:
    """A candidate beside the reference, on labelled clips.

    Attributes:
        clips: How many.
        cosine: Mean cosine between the candidate's and the reference's outputs of the stage.
        worst_cosine: The least of a row.
        top1: Share of equal verdicts.
        drift_mean: Mean difference of the probability of violence, without sign.
        drift_max: The largest.
        accuracy: Share of right verdicts of the candidate.
        reference_accuracy: The same of the reference.
    """

    clips: int
    cosine: float
    worst_cosine: float
    top1: float
    drift_mean: float
    drift_max: float
    accuracy: float
    reference_accuracy: float

    @property
    def is_good(self) -> bool:
        """Whether it agrees on `MIN_AGREEMENT`, loses at most `MAX_ACCURACY_LOSS`, and turns no row by much.

        A row may turn by half of `MAX_TURN`: the proof that follows looks at other clips.
        """
        keeps_verdicts = self.top1 >= MIN_AGREEMENT and self.reference_accuracy - self.accuracy <= MAX_ACCURACY_LOSS
        return keeps_verdicts and 1 - self.worst_cosine <= _TURN

    @property
    def rank(self) -> tuple[float, float, float]:
        """The better candidate's is larger: equal verdicts first, then drift, then the cosine."""
        return self.top1, -self.drift_mean, self.cosine


def measure_agreement(
    outputs: npt.NDArray[np.floating],
    expected: npt.NDArray[np.floating],
    probabilities: npt.NDArray[np.floating],
    expected_probabilities: npt.NDArray[np.floating],
    labels: npt.NDArray[np.int64],
    *,
    threshold: float = 0.5,
) -> Agreement:
    """Compares outputs of a stage and what follows from them.

    Args:
        outputs: What the candidate gives, ``[N, ...]``: features or probabilities.
        expected: What the reference gives, of the same shape.
        probabilities: From the candidate's outputs, ``[N, 2]``.
        expected_probabilities: From the reference's, ``[N, 2]``.
        labels: ``int64[N]``.
        threshold: Probability from which a clip counts as violent.
    """
    cosine = row_cosines(outputs, expected)
    scores, reference = probabilities[:, 1], expected_probabilities[:, 1]
    drift = np.abs(scores - reference)
    verdicts, expected_verdicts = scores >= threshold, reference >= threshold
    return Agreement(
        clips=len(labels),
        cosine=float(cosine.mean()),
        worst_cosine=float(cosine.min()),
        top1=float((verdicts == expected_verdicts).mean()),
        drift_mean=float(drift.mean()),
        drift_max=float(drift.max()),
        accuracy=float((verdicts == labels).mean()),
        reference_accuracy=float((expected_verdicts == labels).mean()),
    )
