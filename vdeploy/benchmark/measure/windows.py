"""Windows of calls: when a measurement has settled, and its figures.

A row is measured in windows. It has settled when the medians of its last windows lie close together; the windows before
them count as warm-up. The default limit, 10 %, is that of NVIDIA's ``perf_analyzer`` (``--stability-percentage``).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["LEAST_WINDOWS", "SPREAD_LIMIT", "Series", "spread_of"]

LEAST_WINDOWS = 5
"""Number of consecutive windows that must agree."""

SPREAD_LIMIT = 0.10
"""Largest distance between their medians, relative to the median of the medians."""


def spread_of(medians: Sequence[float]) -> float:
    """Computes (largest - smallest) / median."""
    return (max(medians) - min(medians)) / float(np.median(medians))


@dataclasses.dataclass
class Series:
    """All windows of a row.

    Attributes:
        windows: Durations of the calls of each window, in seconds.
        warmup_calls: Calls that were not timed.
        rates: Calls per second of each window with several callers; empty with one caller.
    """

    windows: list[list[float]] = dataclasses.field(default_factory=list)
    warmup_calls: int = 0
    rates: list[float] = dataclasses.field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Time of all timed calls; with several callers, the time in which all of them ran."""
        if self.rates:
            return sum(len(window) / rate for window, rate in zip(self.windows, self.rates, strict=True))
        return sum(sum(window) for window in self.windows)

    @property
    def medians(self) -> list[float]:
        """Median call of each window, in seconds."""
        return [float(np.median(window)) for window in self.windows]

    @property
    def settled(self) -> bool:
        """Whether the last windows agree."""
        return len(self.windows) >= LEAST_WINDOWS and spread_of(self.medians[-LEAST_WINDOWS:]) <= SPREAD_LIMIT

    def figures(self, batch: int, frames: int) -> dict[str, Any]:
        """Computes the timing fields of a `vdeploy.benchmark.record.Row`.

        They cover the longest run of last windows that agree; of a series that has not settled, the last
        `LEAST_WINDOWS`.

        Args:
            batch: Clips per call.
            frames: Frames per clip.
        """
        count = self._steady()
        counted, medians = self.windows[-count:], self.medians[-count:]
        calls = np.concatenate(counted)
        p50, p90, p95, p99 = (float(value) * 1e3 for value in np.percentile(calls, [50, 90, 95, 99]))
        clips_per_s = batch * (float(np.mean(self.rates[-count:])) if self.rates else 1 / float(calls.mean()))
        return {
            "warmup_calls": self.warmup_calls + sum(len(window) for window in self.windows[:-count]),
            "calls": len(calls),
            "p50_ms": p50,
            "p90_ms": p90,
            "p95_ms": p95,
            "p99_ms": p99,
            "clips_per_s": clips_per_s,
            "frames_per_s": clips_per_s * frames,
            "windows_ms": tuple(median * 1e3 for median in medians),
            "spread": spread_of(medians),
            "settled": self.settled,
        }

    def _steady(self) -> int:
        """Number of last windows that agree; at least `LEAST_WINDOWS`, or all if there are fewer."""
        medians, count = self.medians, min(LEAST_WINDOWS, len(self.windows))
        while count < len(medians) and spread_of(medians[-count - 1 :]) <= SPREAD_LIMIT:
            count += 1
        return count
