"""Metrics of a detector on labelled clips, with intervals."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vdeploy.core.lazy_imports import require
from vdeploy.evaluation.calibration import log_loss, reliability
from vdeploy.evaluation.intervals import bootstrap_intervals
from vdeploy.evaluation.labelled_scores import check_scores

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Confusion", "Evaluation", "evaluate"]


@dataclasses.dataclass(frozen=True)
class Confusion:
    """Confusion matrix.

    Attributes:
        tn: Non-violent clips that were not flagged.
        fp: Non-violent clips that were flagged: false alarms.
        fn: Violent clips that were not flagged: misses.
        tp: Violent clips that were flagged.
    """

    tn: int
    fp: int
    fn: int
    tp: int

    @property
    def matrix(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """``((tn, fp), (fn, tp))``: a row for each true class, a column for each predicted one."""
        return (self.tn, self.fp), (self.fn, self.tp)


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Metrics of one set of clips. A metric that the clips do not define is ``None``.

    Attributes:
        clips: Number of clips.
        violent: Number of violent clips.
        threshold: A clip was flagged where its probability was at least this.
        confusion: Clips by true and predicted class.
        accuracy: Share of correctly classified clips.
        accuracy_non_violent: The same among non-violent clips; one minus the false-alarm rate.
        accuracy_violent: The same among violent clips.
        balanced_accuracy: Mean of those two.
        precision: Share of violent clips among the flagged ones.
        recall: Share of flagged clips among the violent ones; the same number as ``accuracy_violent``.
        f1: Harmonic mean of precision and recall.
        roc_auc: Probability that a violent clip scores higher than a non-violent one, ties counting half.
        average_precision: Area under the precision-recall curve, as a step function.
        log_loss: Mean negative log likelihood in nats.
        brier: Mean squared difference between probability and label.
        expected_calibration_error: Mean gap between the confidence in the more probable class and the share of right
            predictions, over 15 equal-width bins (Guo et al. 2017, equation 3). It does not depend on the threshold.
        intervals: 95 % percentile bootstrap interval by name of a figure: ``accuracy``, ``accuracy_non_violent``,
            ``accuracy_violent``, ``f1`` and ``roc_auc``, as far as they are defined. Resampling keeps the class counts.
        groups: The same figures, without intervals, for the clips of each group.
    """

    clips: int
    violent: int
    threshold: float
    confusion: Confusion
    accuracy: float
    accuracy_non_violent: float | None
    accuracy_violent: float | None
    balanced_accuracy: float | None
    precision: float | None
    recall: float | None
    f1: float | None
    roc_auc: float | None
    average_precision: float | None
    log_loss: float
    brier: float
    expected_calibration_error: float
    intervals: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    groups: Mapping[str, Evaluation] = dataclasses.field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON-ready values; an undefined one is ``None``, never NaN."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        values["confusion"] = dataclasses.asdict(self.confusion)
        values["intervals"] = {name: list(interval) for name, interval in self.intervals.items()}
        values["groups"] = {name: group.to_dict() for name, group in self.groups.items()}
        return values


def evaluate(
    labels: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    *,
    threshold: float = 0.5,
    groups: Sequence[str] | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
) -> Evaluation:
    """Computes all metrics of a set of clips.

    Args:
        labels: int[N], 1 for violent, 0 for not; N > 0. With one class only, metrics that need both are ``None``.
        probabilities: float[N] in [0, 1], of the violent class.
        threshold: A clip is flagged where its probability is at least this.
        groups: N names, for metrics per group; an empty name belongs to no group.
        bootstrap: Resamples for the intervals; 0 for none.
        seed: Seed of the resampling.

    Returns:
        The metrics.

    Raises:
        ValueError: The arrays do not fit together or hold anything but labels and probabilities.
        MissingExtraError: scikit-learn or SciPy is not installed.

    Example:
        >>> evaluate([0, 0, 1, 1], [0.1, 0.6, 0.7, 0.9]).accuracy
        0.75
    """
    violent, p = check_scores(labels, probabilities)
    if groups is not None and len(groups) != len(p):
        raise ValueError(f"{len(groups)} groups for {len(p)} clips")
    metrics: Any = require("sklearn.metrics", extra="report", purpose="measuring accuracy")
    tn, fp, fn, tp = metrics.confusion_matrix(violent, p >= threshold, labels=[False, True]).ravel().tolist()
    specificity, recall = _ratio(tn, tn + fp), _ratio(tp, tp + fn)
    both = specificity is not None and recall is not None
    return Evaluation(
        clips=len(p),
        violent=tp + fn,
        threshold=float(threshold),
        confusion=Confusion(tn=tn, fp=fp, fn=fn, tp=tp),
        accuracy=(tp + tn) / len(p),
        accuracy_non_violent=specificity,
        accuracy_violent=recall,
        balanced_accuracy=None if specificity is None or recall is None else (specificity + recall) / 2,
        precision=_ratio(tp, tp + fp),
        recall=recall,
        f1=_ratio(2 * tp, 2 * tp + fp + fn),
        roc_auc=float(metrics.roc_auc_score(violent, p)) if both else None,
        average_precision=float(metrics.average_precision_score(violent, p)) if both else None,
        log_loss=log_loss(violent, p),
        brier=float(np.mean((p - violent) ** 2)),
        expected_calibration_error=reliability(violent, p).error,
        intervals=bootstrap_intervals(violent, p, threshold, resamples=bootstrap, seed=seed) if bootstrap else {},
        groups={} if groups is None else _by_group(violent, p, threshold, groups),
    )


def _by_group(
    violent: npt.NDArray[np.bool_], p: npt.NDArray[np.float64], threshold: float, groups: Sequence[str]
) -> dict[str, Evaluation]:
    names = np.asarray(groups)
    return {
        group: evaluate(violent[names == group], p[names == group], threshold=threshold, bootstrap=0)
        for group in sorted({*groups} - {""})
    }


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
