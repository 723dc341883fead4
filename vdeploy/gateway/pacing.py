"""Answers to who is refused in a loop come later, so that refusing takes no time from others."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["DELAY_S", "PACED_STATUSES", "Pace"]

DELAY_S = 0.25
"""Seconds that an answer waits while there are too many."""

PACED_STATUSES = frozenset({400, 401, 403, 408, 413, 429, 431})
"""Statuses of answers that cost their client nothing, and that nobody needs often."""


class Pace:
    """Tells how long an answer should wait: not at all, unless there are more than so many a second.

    A client that sends its next request only after an answer is slowed down by the wait, and one with many connections
    is bounded by their number. Used by one event loop.

    Args:
        per_second: Answers a second that do not wait.
        clock: Seconds of a clock that never goes back.
    """

    def __init__(self, per_second: float = 20.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._clock = clock
        self._left = per_second
        self._before = clock()

    def delay_s(self) -> float:
        """Count one answer; seconds that it should wait."""
        now = self._clock()
        self._left = min(self._per_second, self._left + (now - self._before) * self._per_second)
        self._before = now
        if self._left < 1.0:
            return DELAY_S
        self._left -= 1.0
        return 0.0
