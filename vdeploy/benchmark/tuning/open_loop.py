"""An open-loop load: requests are sent when they are due, whether or not earlier ones have been answered.

A latency counts from the moment when its request was due, so that a server, or a client, that falls behind is not
spared the waiting (coordinated omission).
"""

from __future__ import annotations

import dataclasses
import math
import threading
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

__all__ = ["Load", "Send", "percentile_99", "run_load"]

OVERLOAD_SHARE = 0.05
"""Share of late requests from which a rate is given up; 0.01 decides, so that close calls run to their end."""

DRAIN_SECONDS = 120.0
"""How long to wait for answers at the end."""


Send = Callable[[int, Callable[[Exception | None], None]], None]
"""Sends a request and returns at once: takes its number, which chooses the input, and what is called in the end, in any
thread, with `None` or why there was no answer."""


@dataclasses.dataclass(frozen=True)
class Load:
    """What a server made of a rate.

    Attributes:
        rate: Requests a second that were due, on average.
        requests: Requests that were to be sent.
        latencies_ms: `float64[N]` of those sent, in the order of their arrival; infinite where there was no answer.
        stopped: Whether it was given up early.
        error: Why a request had no answer; empty where all had.
    """

    rate: float
    requests: int
    latencies_ms: npt.NDArray[np.float64]
    stopped: bool = False
    error: str = ""

    @property
    def p99_ms(self) -> float:
        """99th percentile of the latencies of those sent."""
        return percentile_99(self.latencies_ms)

    def holds(self, slo_ms: float) -> bool:
        """Whether 99 % of the requests were answered within an objective."""
        return not self.stopped and self.p99_ms <= slo_ms


def percentile_99(values: npt.NDArray[np.float64]) -> float:
    """The least value that 99 % of the values do not exceed, without interpolation."""
    return float(np.percentile(values, 99, method="inverted_cdf"))


def run_load(send: Send, due: npt.NDArray[np.float64], rate: float, slo_ms: float) -> Load:
    """Sends requests when they are due and waits for their answers.

    Args:
        send: Sends one.
        due: Seconds from the start at which each is due, ascending.
        rate: Their average rate.
        slo_ms: Latency objective; where many requests miss it, no further ones are sent.
    """
    tally = _Tally(due, slo_ms / 1000)
    for index, offset in enumerate(due):
        wait = tally.start + offset - time.perf_counter()
        if wait > 0:
            time.sleep(wait)
        if tally.is_hopeless():
            break
        tally.sent += 1
        send(index, tally.finisher(index))
    tally.wait()
    answered = tally.latencies[: tally.sent]
    latencies = 1000 * np.where(np.isnan(answered), np.inf, answered)
    return Load(rate, len(due), latencies, tally.sent < len(due), tally.error)


class _Tally:
    """Latencies of a load while it runs."""

    def __init__(self, due: npt.NDArray[np.float64], slo_seconds: float) -> None:
        self._due, self._slo = due, slo_seconds
        self._limit = max(1, math.floor(OVERLOAD_SHARE * len(due)))
        self._changed = threading.Condition()
        self.latencies = np.full(len(due), np.nan)
        self.sent, self.answered, self.late, self.error = 0, 0, 0, ""
        self.start = time.perf_counter() + 0.01

    def finisher(self, index: int) -> Callable[[Exception | None], None]:
        """What the answer of a request calls."""

        def done(error: Exception | None) -> None:
            seconds = math.inf if error else time.perf_counter() - self.start - self._due[index]
            with self._changed:
                self.latencies[index] = seconds
                self.answered += 1
                self.late += seconds > self._slo
                self.error = self.error or str(error or "")
                self._changed.notify_all()

        return done

    def is_hopeless(self) -> bool:
        """Whether so many requests are late, answered or not, that the rate need not be tried to its end."""
        with self._changed:
            overdue = int(np.searchsorted(self._due, time.perf_counter() - self.start - self._slo))
            silent = int(np.isnan(self.latencies[: min(overdue, self.sent)]).sum())
            return self.late + silent > self._limit

    def wait(self) -> None:
        """Waits until every request that was sent has its answer; those that have none then have failed."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.answered == self.sent, DRAIN_SECONDS):
                self.error = self.error or f"no answer within {DRAIN_SECONDS:g} s"
