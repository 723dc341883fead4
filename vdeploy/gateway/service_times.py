"""How long work takes, measured as it is done, and how long what waits for it will wait."""

from __future__ import annotations

__all__ = ["ServiceTimes"]

_WEIGHT = 0.2
"""Of the newest measurement in the moving average: after ten of them, nine tenths of the average are new."""


class ServiceTimes:
    """Exponential moving averages of durations, by the size of the work. Reading and writing need no lock."""

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}

    def record(self, size: int, seconds: float) -> None:
        """Take the duration of one piece of work into account.

        Args:
            size: Of the work, such as the clips of a batch.
            seconds: That it took.
        """
        before = self._seconds.get(size, seconds)
        self._seconds[size] = before + _WEIGHT * (seconds - before)

    def expect(self, size: int) -> float:
        """Seconds that work of a size takes: the average of the nearest size that was measured; 0 if none was."""
        known = self._seconds.copy()
        return known[min(known, key=lambda one: abs(one - size))] if known else 0.0
