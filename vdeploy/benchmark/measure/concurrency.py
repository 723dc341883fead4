"""Several callers at once, each in a thread that calls again as soon as it has its answer."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from vdeploy.benchmark.measure.workloads import Call

__all__ = ["Flight", "call_together"]


@dataclasses.dataclass(frozen=True)
class Flight:
    """Calls of several callers.

    Attributes:
        durations: Seconds of each call, in the order in which they began.
        seconds: From the begin of the first to the end of the last.
    """

    durations: list[float]
    seconds: float

    @property
    def calls(self) -> int:
        """How many."""
        return len(self.durations)


def call_together(callers: Sequence[Call], first: int, seconds: float, rounds: int) -> Flight:
    """Has all callers call until the time is over.

    The number of calls is a multiple of that of the callers, for a server that computes theirs in one batch answers
    all of them at once: a count that ended within such a batch would be too high or too low.

    Args:
        callers: What each of them does.
        first: How many calls there were before.
        seconds: How long no caller stops.
        rounds: Calls of each caller at least, on average.

    Raises:
        UserError: A call has failed; no new one begins then.
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
    return Flight([end - begin for begin, end in zip(began, ended, strict=True)], max(ended) - min(began))


class _Tickets:
    """Numbers of calls, given out until the time is over and all callers have had as many."""

    def __init__(self, callers: int, seconds: float, rounds: int) -> None:
        self._callers, self._seconds, self._least = callers, seconds, rounds * callers
        self._lock, self._taken, self._end = threading.Lock(), 0, 0.0
        self._open = False

    def open(self) -> None:
        """Begins the time."""
        self._open, self._end = True, time.perf_counter() + self._seconds

    def close(self) -> None:
        """Gives out no more."""
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
