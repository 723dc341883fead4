"""Scaling studies: throughput by batch, number of devices, or size of the data set."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from vdeploy.core.progress import track

__all__ = ["Axis", "Probe", "ScalePoint", "Study", "run_study"]

Axis = Literal["batch", "devices", "clips"]

_ROUNDS = 5


@dataclasses.dataclass(frozen=True)
class Probe:
    """A call to time at one position of an axis.

    Attributes:
        value: The position: clips per batch, devices, or clips of the data set.
        clips: Clips per call.
        call: The work; it returns when the work is done.
    """

    value: int
    clips: int
    call: Callable[[], object]


@dataclasses.dataclass(frozen=True)
class ScalePoint:
    """The measurement at one position of an axis.

    Attributes:
        value: The position.
        calls: Calls that were timed, after the warm-up.
        seconds: Of the median call.
        p10_seconds: A tenth of the calls were faster.
        p90_seconds: A tenth of the calls were slower.
        clips_per_s: Throughput of the median call.
        times_first: Throughput relative to the first position of the study.
    """

    value: int
    calls: int
    seconds: float
    p10_seconds: float
    p90_seconds: float
    clips_per_s: float
    times_first: float


@dataclasses.dataclass(frozen=True)
class Study:
    """Measurements along one axis.

    Attributes:
        what: Description of the work.
        axis: The axis.
        points: The measurements, in the requested order.
    """

    what: str
    axis: Axis
    points: tuple[ScalePoint, ...]

    def to_dict(self) -> dict[str, Any]:
        """Converts the study to JSON-ready values."""
        return dataclasses.asdict(self)


def run_study(what: str, axis: Axis, probes: Sequence[Probe], seconds: float) -> Study:
    """Times probes in turns, so that a drift of the machine affects all of them alike.

    Every probe is called once to warm up; then each of several rounds gives every probe a turn of at least one call.

    Args:
        what: Description of the work.
        axis: The axis along which the probes vary.
        probes: The calls to time.
        seconds: Time for each probe over all turns; a turn ends with the call during which its time is over.
    """
    durations: list[list[float]] = [[] for _ in probes]
    with track(what, (1 + _ROUNDS) * len(probes), "turns") as step:
        for probe in probes:
            step.advance(0, note=f"{axis} {probe.value}, warm-up")
            probe.call()
            step.advance()
        for _ in range(_ROUNDS):
            for probe, taken in zip(probes, durations, strict=True):
                step.advance(0, note=f"{axis} {probe.value}")
                taken.extend(_turn(probe.call, seconds / _ROUNDS))
                step.advance()
    first = probes[0].clips / statistics.median(durations[0])
    points = [_point(probe, taken, first) for probe, taken in zip(probes, durations, strict=True)]
    return Study(what, axis, tuple(points))


def _point(probe: Probe, durations: Sequence[float], first: float) -> ScalePoint:
    p10, median, p90 = (float(value) for value in np.percentile(durations, [10, 50, 90]))
    rate = probe.clips / median
    return ScalePoint(probe.value, len(durations), median, p10, p90, rate, rate / first)


def _turn(call: Callable[[], object], seconds: float) -> list[float]:
    durations: list[float] = []
    end = time.perf_counter() + seconds
    while not durations or time.perf_counter() < end:
        started = time.perf_counter()
        call()
        durations.append(time.perf_counter() - started)
    return durations
