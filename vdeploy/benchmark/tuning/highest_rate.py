"""The highest rate at which a server holds a latency objective."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np

from vdeploy.benchmark.tuning.open_loop import Load

__all__ = ["RATES_PER_MEAN", "STEPS_PER_DECADE", "HighestRate", "find_highest_rate", "mean_rate", "rate_at"]

STEPS_PER_DECADE = 80
"""Rates that are tried lie on a scale of this many steps, 2.9 % each, so that two searches try the same ones."""

FIRST_JUMP = 4
"""Steps to the second rate; each further one is twice as far, until the objective is missed, or held again."""

LEAST_SHARE = 1 / 10
"""Below this share of the rate that the search started with, it gives up."""

RATES_PER_MEAN = 3
STUDENT_T = 4.303
"""97.5 % quantile of Student's t for as many rates, with one degree of freedom less."""


@dataclasses.dataclass(frozen=True)
class HighestRate:
    """What a search has found.

    Attributes:
        per_s: Highest rate that was tried and held, below every rate that was not held; 0 where none was.
        p99_ms: 99th percentile of the latencies at that rate; at the lowest one that was tried where none was held.
        loads: All that was tried, by rate.
    """

    per_s: float
    p99_ms: float
    loads: tuple[Load, ...]


def rate_at(index: int) -> float:
    """A rate of the scale, in four digits."""
    return float(f"{10 ** (index / STEPS_PER_DECADE):.4g}")


def find_highest_rate(measure: Callable[[float], Load], start: float, slo_ms: float) -> HighestRate:
    """Tries rising, or falling, rates until the objective is missed, or held, and then halves the distance.

    Args:
        measure: Puts a rate on the server.
        start: Rate to begin with.
        slo_ms: Limit of the 99th percentile of the latencies.
    """
    loads: dict[int, Load] = {}

    def holds(index: int) -> bool:
        loads[index] = measure(rate_at(index))
        return loads[index].holds(slo_ms)

    first = round(STEPS_PER_DECADE * math.log10(start))
    least = first + round(STEPS_PER_DECADE * math.log10(LEAST_SHARE))
    rises = holds(first)
    inner, outer, jump = first, first, FIRST_JUMP
    while True:
        inner, outer, jump = outer, outer + (jump if rises else -jump), 2 * jump
        if outer < least:
            return _found(loads, slo_ms)
        if holds(outer) is not rises:
            break
    held, missed = (inner, outer) if rises else (outer, inner)
    while missed - held > 1:
        middle = (held + missed) // 2
        held, missed = (middle, missed) if holds(middle) else (held, middle)
    return _found(loads, slo_ms)


def mean_rate(rates: Sequence[float]) -> tuple[float, float, float]:
    """Geometric mean of rates that were found by different arrivals, and its 95 % interval by Student's t.

    Arrivals of a few hundred requests hold few of those that decide a 99th percentile, so that the rates differ.

    Args:
        rates: `RATES_PER_MEAN` of them.

    Returns:
        Mean, lower end, upper end; a mean of 0 where a rate is 0.
    """
    if not all(rates):
        return 0.0, 0.0, max(rates)
    logarithms = np.log(rates)
    factor = math.exp(STUDENT_T * float(logarithms.std(ddof=1)) / math.sqrt(len(rates)))
    mean = math.exp(float(logarithms.mean()))
    return mean, mean / factor, mean * factor


def _found(loads: dict[int, Load], slo_ms: float) -> HighestRate:
    ordered = [loads[index] for index in sorted(loads)]
    held = [*itertools.takewhile(lambda load: load.holds(slo_ms), ordered)]
    at = held[-1] if held else ordered[0]
    return HighestRate(at.rate if held else 0.0, at.p99_ms, tuple(ordered))
