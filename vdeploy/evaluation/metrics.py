"""How good a detector is on held-out clips, how sure one can be of that, and where to put its threshold."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from vdeploy.core.errors import DatasetError
from vdeploy.evaluation.calibration import log_loss, reliability

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = [
    "Confusion",
    "Evaluation",
    "PrecisionRecallCurve",
    "RocCurve",
    "ThresholdRule",
    "choose_threshold",
    "evaluate",
    "precision_recall_curve",
    "roc_curve",
]

ThresholdRule = Literal["f1", "recall", "cost"]

_CHUNK = 1 << 21
"""Counts that are resampled at once: 16 MiB an array."""

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclasses.dataclass(frozen=True)
class Confusion:
    """Clips by what they are and what was said of them.

    Attributes:
        tn: Non-violent, and said so.
        fp: Non-violent, but flagged: a false alarm.
        fn: Violent, but not flagged: a miss.
        tp: Violent, and flagged.
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
    """The figures of one set of clips. A figure that the clips do not define is ``None``.

    Attributes:
        clips: Clips in all.
        violent: How many of them are violent.
        threshold: A clip was flagged where its probability was at least this.
        confusion: Clips by true and predicted class.
        accuracy: Share of clips that were put in the right class.
        accuracy_non_violent: The same among non-violent clips; one minus the false-alarm rate.
        accuracy_violent: The same among violent clips.
        balanced_accuracy: Mean of those two.
        precision: Share of violent clips among the flagged ones.
        recall: Share of flagged clips among the violent ones; the same number as ``accuracy_violent``.
        f1: Harmonic mean of precision and recall.
        roc_auc: Probability that a violent clip scores higher than a non-violent one, ties counting half.
        average_precision: Area under the precision-recall steps.
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


@dataclasses.dataclass(frozen=True)
class RocCurve:
    """Receiver operating characteristic, from the strictest threshold to the loosest.

    Attributes:
        false_positive_rate: float64[K], rising from 0 to 1; NaN without non-violent clips.
        true_positive_rate: float64[K], rising from 0 to 1; NaN without violent clips.
        thresholds: float64[K], falling; the first is infinity, which flags nothing.
    """

    false_positive_rate: Floats
    true_positive_rate: Floats
    thresholds: Floats


@dataclasses.dataclass(frozen=True)
class PrecisionRecallCurve:
    """Precision against recall, from the strictest threshold to the loosest.

    Attributes:
        recall: float64[K], rising to 1; NaN without violent clips.
        precision: float64[K].
        thresholds: float64[K], falling.
    """

    recall: Floats
    precision: Floats
    thresholds: Floats


def evaluate(
    labels: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    *,
    threshold: float = 0.5,
    groups: Sequence[str] | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
) -> Evaluation:
    """Computes every figure of a set of clips.

    Args:
        labels: int[N], 1 for violent, 0 for not; N > 0. One class alone is fine: what needs both is ``None`` then.
        probabilities: float[N] in [0, 1], of the violent class.
        threshold: A clip is flagged where its probability is at least this.
        groups: N names, for figures per group; an empty name belongs to no group.
        bootstrap: Resamples for the intervals; 0 for none.
        seed: Seed of the resampling.

    Returns:
        The figures.

    Raises:
        ValueError: The arrays do not fit together or hold anything but labels and probabilities.

    Example:
        >>> evaluate([0, 0, 1, 1], [0.1, 0.6, 0.7, 0.9]).accuracy
        0.75
    """
    violent, p = _checked(labels, probabilities)
    if groups is not None and len(groups) != len(p):
        raise ValueError(f"{len(groups)} groups for {len(p)} clips")
    flagged = p >= threshold
    tp, fp = int((flagged & violent).sum()), int((flagged & ~violent).sum())
    fn, tn = int(violent.sum()) - tp, int((~violent).sum()) - fp
    specificity, recall = _ratio(tn, tn + fp), _ratio(tp, tp + fn)
    roc_auc = average_precision = None
    if specificity is not None and recall is not None:
        curve = precision_recall_curve(violent, p)
        average_precision = float(np.diff(curve.recall, prepend=0.0) @ curve.precision)
        ranking = _Ranking(violent, p)
        roc_auc = float(ranking.auc(np.ones((1, tp + fn)), np.ones((1, tn + fp)))[0])
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
        roc_auc=roc_auc,
        average_precision=average_precision,
        log_loss=log_loss(violent, p),
        brier=float(np.mean((p - violent) ** 2)),
        expected_calibration_error=reliability(violent, p).error,
        intervals=_intervals(violent, p, threshold, bootstrap, seed),
        groups={} if groups is None else _by_group(violent, p, threshold, groups),
    )


def roc_curve(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> RocCurve:
    """Computes true against false positive rate at every distinct probability.

    Args:
        labels: int[N], 1 for violent, 0 for not; N > 0.
        probabilities: float[N] in [0, 1], of the violent class.

    Raises:
        ValueError: As for `evaluate`.
    """
    thresholds, tp, fp = _cumulative(*_checked(labels, probabilities))
    return RocCurve(
        false_positive_rate=np.concatenate([[0.0], fp / (fp[-1] or math.nan)]),
        true_positive_rate=np.concatenate([[0.0], tp / (tp[-1] or math.nan)]),
        thresholds=np.concatenate([[math.inf], thresholds]),
    )


def precision_recall_curve(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> PrecisionRecallCurve:
    """Computes precision and recall at every distinct probability.

    Args:
        labels: int[N], 1 for violent, 0 for not; N > 0.
        probabilities: float[N] in [0, 1], of the violent class.

    Raises:
        ValueError: As for `evaluate`.
    """
    thresholds, tp, fp = _cumulative(*_checked(labels, probabilities))
    return PrecisionRecallCurve(recall=tp / (tp[-1] or math.nan), precision=tp / (tp + fp), thresholds=thresholds)


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
        probabilities: float[N] in [0, 1], of the violent class, as they will be in use: after any temperature.
        by: ``"f1"``: the highest F1. ``"recall"``: the highest threshold whose recall is at least ``recall_floor``.
            ``"cost"``: the lowest total cost of false alarms and misses.
        recall_floor: For ``"recall"``, in (0, 1].
        cost_false_alarm: For ``"cost"``, what a false alarm costs.
        cost_miss: For ``"cost"``, what a miss costs.

    Returns:
        The threshold, in [0, 1]; a clip is to be flagged where its probability is at least this.

    Raises:
        DatasetError: ``"f1"`` or ``"recall"``, but no clip is violent.
        ValueError: An argument is out of range, or as for `evaluate`.
    """
    violent, p = _checked(labels, probabilities)
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


class _Ranking:
    """Clips in order of probability, ready for the area under the ROC curve of many resamples at once."""

    def __init__(self, violent: Bools, p: Floats) -> None:
        distinct, rank = np.unique(p, return_inverse=True)
        self._ranks = len(distinct)
        self._violent = rank[violent]
        self._other = rank[~violent]

    def auc(self, violent_counts: npt.NDArray[Any], other_counts: npt.NDArray[Any]) -> Floats:
        """Mann-Whitney statistic of B resamples, given how often each drew each clip: [B, P] and [B, N]."""
        violent = self._by_rank(self._violent, violent_counts)
        other = self._by_rank(self._other, other_counts)
        below = np.cumsum(other, axis=1) - other
        wins: Floats = (violent * (below + other / 2)).sum(axis=1)
        pairs: Floats = violent.sum(axis=1) * other.sum(axis=1)
        return wins / pairs

    def _by_rank(self, rank: Ints, counts: npt.NDArray[Any]) -> Floats:
        rows = np.arange(len(counts))[:, None] * self._ranks
        flat: Any = np.bincount((rows + rank).ravel(), weights=counts.ravel(), minlength=len(counts) * self._ranks)
        table: Floats = flat.reshape(len(counts), self._ranks)
        return table


def _intervals(
    violent: Bools, p: Floats, threshold: float, resamples: int, seed: int
) -> dict[str, tuple[float, float]]:
    if not resamples:
        return {}
    positives, negatives = int(violent.sum()), int((~violent).sum())
    ranking = _Ranking(violent, p)
    parts: dict[str, list[Floats]] = {}
    for drawn_violent, drawn_other in _resamples(positives, negatives, resamples, seed):
        tp = drawn_violent @ (p[violent] >= threshold)
        fp = drawn_other @ (p[~violent] >= threshold)
        figures = {"accuracy": (tp + negatives - fp) / len(p)}
        if negatives:
            figures["accuracy_non_violent"] = 1 - fp / negatives
        if positives:
            figures["accuracy_violent"] = tp / positives
            figures["f1"] = 2 * tp / (tp + fp + positives)
        if positives and negatives:
            figures["roc_auc"] = ranking.auc(drawn_violent, drawn_other)
        for name, values in figures.items():
            parts.setdefault(name, []).append(values)
    return {name: _percentiles(np.concatenate(values)) for name, values in parts.items()}


def _resamples(positives: int, negatives: int, resamples: int, seed: int) -> Iterator[tuple[Ints, Ints]]:
    """Yields how often each clip was drawn, in chunks: int64[B, positives] and int64[B, negatives]."""
    rng = np.random.default_rng(seed)
    step = max(1, _CHUNK // (positives + negatives))
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        yield _draw(rng, positives, size), _draw(rng, negatives, size)


def _draw(rng: np.random.Generator, clips: int, size: int) -> Ints:
    if not clips:
        return np.zeros((size, 0), dtype=np.int64)
    return rng.multinomial(clips, np.full(clips, 1 / clips), size=size)


def _percentiles(values: Floats) -> tuple[float, float]:
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def _by_group(violent: Bools, p: Floats, threshold: float, groups: Sequence[str]) -> dict[str, Evaluation]:
    members: dict[str, list[int]] = {}
    for index, group in enumerate(groups):
        if group:
            members.setdefault(group, []).append(index)
    return {
        group: evaluate(violent[indices], p[indices], threshold=threshold, bootstrap=0)
        for group, indices in sorted(members.items())
    }


def _cumulative(violent: Bools, p: Floats) -> tuple[Floats, Ints, Ints]:
    """Distinct probabilities, falling, with the true and false positives that each gives as a threshold."""
    order = np.argsort(-p, kind="stable")
    falling, hits = p[order], violent[order]
    last = np.append(np.flatnonzero(np.diff(falling)), len(p) - 1)
    tp = np.cumsum(hits)[last]
    return falling[last], tp, last + 1 - tp


def _closest_to_half(candidates: Floats, merit: npt.NDArray[Any]) -> float:
    best = candidates[merit == merit.max()]
    return float(best[np.argmin(np.abs(best - 0.5))])


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _checked(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> tuple[Bools, Floats]:
    y, p = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    if y.ndim != 1 or y.shape != p.shape:
        raise ValueError(
            f"labels and probabilities must be two lists of one length, not of shapes {y.shape}, {p.shape}"
        )
    if not y.size:
        raise ValueError("there are no clips to evaluate")
    if not np.isin(y, (0, 1)).all():
        raise ValueError("labels must be 0 or 1")
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError("probabilities must lie in [0, 1]; NaN means that the training diverged")
    return y == 1, p
