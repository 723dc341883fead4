"""What a search maximises."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np

from training.experiments.judged_folds import THRESHOLD
from vdeploy.evaluation.metrics import evaluate

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Figures", "objective"]


@dataclasses.dataclass(frozen=True)
class Figures:
    """Figures of a trial on clips of sources that were not learned from, mean over the seeds.

    Attributes:
        roc_auc: Area under the ROC curve.
        log_loss: Mean negative log likelihood in nats.
        accuracy: At a threshold of 0.5.
    """

    roc_auc: float
    log_loss: float
    accuracy: float


def objective(labels: npt.NDArray[np.int64], scores: npt.NDArray[np.float64]) -> tuple[float, Figures]:
    """The AUC of the clips that are judged so far, with ties broken in favour of the lower log loss.

    The AUC of P violent and N other clips is a multiple of 1 / (2 P N), because a tie counts half, and its mean over S
    seeds one of 1 / (2 P N S), so a smaller term orders only trainings with equal AUC.

    Args:
        labels: ``int64[N]``.
        scores: Probabilities of violence, ``float64[S, N]``, one row a seed; NaN where a clip is not judged.

    Returns:
        The mean over the seeds, NaN where no seed has judged clips of both classes; and the figures behind it.
    """
    values, found = [], []
    for row in scores:
        judged = ~np.isnan(row)
        if len(np.unique(labels[judged])) < 2:
            continue
        figures = evaluate(labels[judged], row[judged], threshold=THRESHOLD, bootstrap=0)
        positives = int(labels[judged].sum())
        step = 1 / (2 * positives * (int(judged.sum()) - positives))
        auc = figures.roc_auc or 0.0
        values.append(auc - step / (2 * len(scores)) * figures.log_loss / (1 + figures.log_loss))
        found.append((auc, figures.log_loss, figures.accuracy))
    if not values:
        return math.nan, Figures(math.nan, math.nan, math.nan)
    return float(np.mean(values)), Figures(*(float(value) for value in np.mean(found, axis=0)))
