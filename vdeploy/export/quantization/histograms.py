"""How often which values occur in a tensor, gathered frame by frame: memory holds one frame's tensors, never all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vdeploy.export.onnx.activations import observe

if TYPE_CHECKING:
    import numpy.typing as npt
    import onnx

__all__ = ["BINS", "Histogram", "collect_histograms"]

BINS = 8192
"""Bins of equal width on each side of zero."""

_SAMPLES = 1 << 16
"""Values of a tensor that are counted in one go; its smallest and largest are always found among all."""


class Histogram:
    """Counts of a tensor's values around zero; its reach doubles whenever a larger value comes.

    Attributes:
        low: The smallest value that was seen.
        high: The largest value that was seen.
        reach: Bins cover ``-reach`` to ``reach``; a power of two.
        counts: ``int64[2 * BINS]``.
    """

    def __init__(self) -> None:
        self.low = float("inf")
        self.high = float("-inf")
        self.reach = 2.0**-20
        self.counts: npt.NDArray[np.int64] = np.zeros(2 * BINS, np.int64)

    @property
    def edges(self) -> npt.NDArray[np.float64]:
        """``float64[2 * BINS + 1]``: where bins begin and end."""
        return np.linspace(-self.reach, self.reach, 2 * BINS + 1)

    @property
    def magnitudes(self) -> npt.NDArray[np.int64]:
        """``int64[BINS]``: how often which distance from zero occurs, up to ``reach``."""
        result: npt.NDArray[np.int64] = self.counts[BINS:] + self.counts[:BINS][::-1]
        return result

    def add(self, values: npt.NDArray[np.float32]) -> None:
        """Counts the values of a tensor; of a large one, every n-th."""
        flat = values.reshape(-1)
        self.low = min(self.low, float(flat.min()))
        self.high = max(self.high, float(flat.max()))
        self._widen(max(-self.low, self.high))
        # An odd stride passes through all positions and channels, whose numbers are even.
        sample = flat[:: flat.size // _SAMPLES | 1].astype(np.float64)
        bins = np.floor((sample / self.reach + 1) * BINS).astype(np.int64).clip(0, 2 * BINS - 1)
        self.counts += np.bincount(bins, minlength=2 * BINS)

    def _widen(self, magnitude: float) -> None:
        while self.reach < magnitude:
            self.reach *= 2
            halved = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.pad(halved, BINS // 2)


def collect_histograms(
    model: onnx.ModelProto, tensors: Sequence[str], feeds: Iterable[Mapping[str, npt.NDArray[Any]]]
) -> dict[str, Histogram]:
    """Runs a float model and counts the values of inner tensors.

    Args:
        model: The model.
        tensors: Names of the tensors.
        feeds: Inputs by name, consumed one at a time.

    Returns:
        A histogram for each tensor; empty if there were no feeds.
    """
    histograms: dict[str, Histogram] = {}
    for found in observe(model, tensors, feeds):
        for name, values in found.items():
            histograms.setdefault(name, Histogram()).add(values)
    return histograms
