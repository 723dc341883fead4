"""Pauses between the restarts of a server, which grow while it keeps crashing."""

from __future__ import annotations

import collections

__all__ = ["Backoff"]

WINDOW_SECONDS = 600.0
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0


class Backoff:
    """No pause before the first restart; then 1, 2, 4, ... seconds and at most a minute.

    A crash counts for ten minutes.
    """

    def __init__(self) -> None:
        self._crashes: collections.deque[float] = collections.deque(maxlen=32)

    def next_pause(self, now: float) -> float:
        """Seconds to wait before the restart after a crash.

        Args:
            now: Time of the crash, in seconds of any clock that does not go back.
        """
        while self._crashes and now - self._crashes[0] > WINDOW_SECONDS:
            self._crashes.popleft()
        before = len(self._crashes)
        self._crashes.append(now)
        return min(FIRST_PAUSE_SECONDS * 2.0 ** (before - 1), LONGEST_PAUSE_SECONDS) if before else 0.0
