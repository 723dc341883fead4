"""Choice of a decision threshold on held-out clips."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from vdeploy.core.errors import DatasetError
from vdeploy.evaluation.labelled_scores import check_scores

__all__ = ["ThresholdRule", "choose_threshold"]

ThresholdRule = Literal["f1", "recall", "cost"]

Floats = npt.NDArray[np.float64]


def choose_threshold(
    labels: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    *,
    by: ThresholdRule = "f1",
    recall_floor: float | None = None,
    cost_false_alarm: float = 1.0,
    cost_miss: float = 1.0,
) -> float:
    """Chooses a decision threshold on held-out clips.

    Candidates are the midpoints between neighbouring distinct probabilities, with 0 and 1 as outermost neighbours.
    Among equally good ones the closest to 0.5 wins, and of two equally close ones the lower.

    Args:
        labels: int[N], 1 for violent, 0 for not; N > 0.
        probabilities: float[N] in [0, 1], of the violent class, after calibration.
        by: ``"f1"``: the highest F1. ``"recall"``: the highest threshold whose recall is at least ``recall_floor``.
            ``"cost"``: the lowest total cost of false alarms and misses.
        recall_floor: For ``"recall"``, in (0, 1].
        cost_false_alarm: For ``"cost"``, cost of a false alarm.
        cost_miss: For ``"cost"``, cost of a miss.

    Returns:
        The threshold, in [0, 1]; a clip is flagged where its probability is at least this.

    Raises:
        DatasetError: ``"f1"`` or ``"recall"``, but no clip is violent.
        ValueError: An argument is out of range, or as for `evaluate`.
    """
    violent, p = check_scores(labels, probabilities)
    if by in ("f1", "recall") and not violent.any():
        raise DatasetError(
            f"none of the {len(p)} clips is violent, so no threshold can be chosen by {by}",
            "add violent clips to the validation split",
        )
    distinct = np.unique(p)
    low, high = distinct[0] / 2, (distinct[-1] + 1) / 2
    candidates = np.concatenate([[low], (distinct[:-1] + distinct[1:]) / 2, [high]])
    tp = violent.sum() - np.searchsorted(np.sort(p[violent]), candidates, side="left")
    fp = (~violent).sum() - np.searchsorted(np.sort(p[~violent]), candidates, side="left")
    fn = violent.sum() - tp
    match by:
        case "f1":
            return _closest_to_half(candidates, 2 * tp / (2 * tp + fp + fn))
        case "recall":
            if recall_floor is None or not 0 < recall_floor <= 1:
                raise ValueError(f"recall_floor must be above 0 and at most 1, not {recall_floor}")
            return float(candidates[tp / (tp + fn) >= recall_floor].max())
        case "cost":
            if not (cost_false_alarm >= 0 and cost_miss >= 0 and cost_false_alarm + cost_miss > 0):
                raise ValueError(f"costs must be positive, not {cost_false_alarm} and {cost_miss}")
            return _closest_to_half(candidates, -(cost_false_alarm * fp + cost_miss * fn))
    raise ValueError(f"by must be 'f1', 'recall' or 'cost', not {by!r}")


def _closest_to_half(candidates: Floats, merit: npt.NDArray[Any]) -> float:
    best = candidates[merit == merit.max()]
    return float(best[np.argmin(np.abs(best - 0.5))])
