"""Concurrent callers: each in a thread that sends its next call as soon as it has an answer."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from vdeploy.benchmark.measure.subjects import Call

__all__ = ["ConcurrentRun", "run_concurrently"]


@dataclasses.dataclass(frozen=True)
class ConcurrentRun:
    """The calls of several callers.

    Attributes:
        durations: Seconds of each call, ordered by their start.
        seconds: Time from the start of the first call to the end of the last.
    """

    durations: list[float]
    seconds: float

    @property
    def calls(self) -> int:
        """Number of calls."""
        return len(self.durations)


def run_concurrently(callers: Sequence[Call], first: int, seconds: float, rounds: int) -> ConcurrentRun:
    """Runs all callers until the time is over.

    The number of calls is a multiple of the number of callers: a server that computes their requests in one batch
    answers all of them at once, and a count that ended within such a batch would be too high or too low.

    Args:
        callers: The call of each caller.
        first: Number of earlier calls.
        seconds: Time before which no caller stops.
        rounds: Least number of calls per caller, on average.

    Raises:
        UserError: A call has failed; no further call is started.
    """
    tickets = _Tickets(len(callers), seconds, rounds)
    start = threading.Barrier(len(callers), action=tickets.open)
    times: dict[int, tuple[float, float]] = {}

    def work(call: Call) -> None:
        start.wait()
        try:
            while (ticket := tickets.take()) is not None:
                began = time.perf_counter()
                call(first + ticket)
                times[ticket] = began, time.perf_counter()
        except BaseException:
            tickets.close()
            raise

    with ThreadPoolExecutor(len(callers)) as pool:
        futures = [pool.submit(work, call) for call in callers]
    for future in futures:
        future.result()
    began, ended = zip(*(times[ticket] for ticket in sorted(times)), strict=True)
    return ConcurrentRun([end - begin for begin, end in zip(began, ended, strict=True)], max(ended) - min(began))


class _Tickets:
    """Hands out numbers of calls until the time is over and every caller has had the same share."""

    def __init__(self, callers: int, seconds: float, rounds: int) -> None:
        self._callers, self._seconds, self._least = callers, seconds, rounds * callers
        self._lock, self._taken, self._end = threading.Lock(), 0, 0.0
        self._open = False

    def open(self) -> None:
        """Starts the clock."""
        self._open, self._end = True, time.perf_counter() + self._seconds

    def close(self) -> None:
        """Stops handing out numbers."""
        self._open = False

    def take(self) -> int | None:
        """The next number, from 0; ``None`` when there are no more."""
        with self._lock:
            even = self._taken >= self._least and self._taken % self._callers == 0
            if even and time.perf_counter() >= self._end:
                self._open = False
            if not self._open:
                return None
            self._taken += 1
            return self._taken - 1
