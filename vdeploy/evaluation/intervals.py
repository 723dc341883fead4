"""Bootstrap intervals of the figures of a detector."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from vdeploy.core.lazy_imports import require

__all__ = ["bootstrap_intervals"]

_BATCH_VALUES = 1 << 21
"""Scores in one batch of resamples: 16 MiB per array."""

Floats = npt.NDArray[np.float64]


def bootstrap_intervals(
    violent: npt.NDArray[np.bool_], p: Floats, threshold: float, *, resamples: int, seed: int
) -> dict[str, tuple[float, float]]:
    """Percentile bootstrap intervals; resampling keeps the class counts.

    Args:
        violent: bool[N], the labels; N > 0.
        p: float64[N], probabilities of the violent class.
        threshold: A clip is flagged where its probability is at least this.
        resamples: Number of resamples.
        seed: Seed of the resampling.

    Returns:
        95 % interval by name of a figure, for those that the classes present define.

    Raises:
        MissingExtraError: SciPy is not installed.
    """
    stats: Any = require("scipy.stats", extra="report", purpose="measuring accuracy")
    positives, negatives = int(violent.sum()), int((~violent).sum())

    def figures(*scores: Floats, axis: int) -> Floats:
        by_class = dict(zip(present, scores, strict=True))
        found = {name: (score >= threshold).mean(axis=axis) for name, score in by_class.items()}
        tp, fp = positives * found.get("violent", 0.0), negatives * found.get("other", 0.0)
        values = {"accuracy": (tp + negatives - fp) / len(p)}
        if negatives:
            values["accuracy_non_violent"] = 1 - found["other"]
        if positives:
            values["accuracy_violent"] = found["violent"]
            values["f1"] = 2 * tp / (tp + fp + positives)
        if positives and negatives:
            values["roc_auc"] = _auc(stats, by_class["violent"], by_class["other"], axis)
        names[:] = values
        return np.stack(list(values.values()))

    names: list[str] = []
    # SciPy needs two observations: a class of one clip is given twice, which changes no mean.
    present = {
        name: np.resize(scores, max(2, len(scores)))
        for name, scores in (("violent", p[violent]), ("other", p[~violent]))
        if len(scores)
    }
    result = stats.bootstrap(
        list(present.values()),
        figures,
        n_resamples=resamples,
        batch=max(1, _BATCH_VALUES // len(p)),
        vectorized=True,
        method="percentile",
        random_state=np.random.default_rng(seed),
    )
    low, high = result.confidence_interval
    return {name: (float(low[index]), float(high[index])) for index, name in enumerate(names)}


def _auc(stats: Any, violent: Floats, other: Floats, axis: int) -> Floats:
    """Area under the ROC curve as the Mann-Whitney statistic, over the last axis."""
    count, others = violent.shape[axis], other.shape[axis]
    ranks: Floats = stats.rankdata(np.concatenate([violent, other], axis=axis), axis=axis)
    wins: Floats = ranks[..., :count].sum(axis=axis) - count * (count + 1) / 2
    areas: Floats = wins / (count * others)
    return areas
