"""From the values that a tensor took to the range that eight bits should cover."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from vdeploy.export.quantization.flavours import Flavour
from vdeploy.export.quantization.histograms import Histogram
from vdeploy.export.quantization.qdq import Range

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["METHODS", "PERCENTILE", "entropy", "min_max", "percentile"]

PERCENTILE = 99.99
"""Per cent of the values that the method ``percentile`` keeps inside the range."""

_COARSE_BINS = 2048
_STEP = 16


def min_max(histogram: Histogram, _flavour: Flavour) -> Range:
    """The smallest and the largest value seen: nothing is clipped, outliers cost everyone else resolution."""
    return histogram.low, histogram.high


def percentile(histogram: Histogram, _flavour: Flavour) -> Range:
    """The middle `PERCENTILE` per cent of the values."""
    tail = (100 - PERCENTILE) / 200
    share = np.concatenate([[0.0], np.cumsum(histogram.counts)]) / histogram.counts.sum()
    first = int(np.searchsorted(share, tail, side="right")) - 1
    last = int(np.searchsorted(share, 1 - tail, side="left"))
    edges = histogram.edges
    return max(histogram.low, float(edges[first])), min(histogram.high, float(edges[last]))


def entropy(histogram: Histogram, flavour: Flavour) -> Range:
    """The range that loses the least information, as TensorRT calibrated (Migacz, GTC 2017, "8-bit Inference").

    For each candidate limit, the distribution of magnitudes clipped to it is compared with what is left of it on the
    levels of eight bits; the limit with the smallest Kullback-Leibler divergence is taken.
    """
    levels = flavour.positive_levels if histogram.low >= 0 else 127
    counts = histogram.magnitudes.reshape(_COARSE_BINS, -1).sum(axis=1).astype(np.float64)
    # Zeros are exact on every scale, and behind a Relu they are half of all values.
    counts[0] = 0
    used = int(np.flatnonzero(counts)[-1]) + 1 if counts.any() else 0
    candidates = [*range(levels, used, _STEP), used]
    best = min(candidates, key=lambda bins: _divergence(counts, bins, levels))
    limit = histogram.reach * best / _COARSE_BINS if used > levels else histogram.reach
    return max(histogram.low, -limit), min(histogram.high, limit)


METHODS: dict[str, Callable[[Histogram, Flavour], Range]] = {
    "min-max": min_max,
    "entropy": entropy,
    "percentile": percentile,
}
"""The calibration methods that are tried, by name."""


def _divergence(counts: npt.NDArray[np.float64], bins: int, levels: int) -> float:
    """Kullback-Leibler divergence of a clipped distribution from its quantized form, in nats."""
    kept = counts[:bins]
    clipped = kept.copy()
    clipped[-1] += counts[bins:].sum()
    level = np.arange(bins) * levels // bins
    occupied = kept > 0
    mass = np.bincount(level, kept, levels)
    members = np.bincount(level, occupied, levels)
    spread = np.where(occupied, (mass / np.maximum(members, 1))[level], 0)
    p, q = clipped / clipped.sum(), spread / max(spread.sum(), 1)
    both = (p > 0) & (q > 0)
    # A value clipped into a bin that was empty has no counterpart; it counts as being seen once.
    alone = (p > 0) & (q == 0)
    floor = 1 / max(spread.sum(), 1)
    return float(np.sum(p[both] * np.log(p[both] / q[both])) + np.sum(p[alone] * np.log(p[alone] / floor)))
