"""How speed scales: inference with the batch; training with the batch, with devices, and with the size of the data."""

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
    """Something to time at one place of an axis.

    Attributes:
        value: The place: clips a batch, devices, or clips of the data set.
        clips: Clips that a call takes.
        call: The work; it returns when that is done.
    """

    value: int
    clips: int
    call: Callable[[], object]


@dataclasses.dataclass(frozen=True)
class ScalePoint:
    """What was measured at one place of an axis.

    Attributes:
        value: The place.
        calls: Calls that were timed, after the warm-up.
        seconds: Of the median call.
        p10_seconds: A tenth of the calls were faster.
        p90_seconds: A tenth of the calls were slower.
        clips_per_s: Throughput of the median call.
        times_first: The same over that of the study's first place.
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
    """How one kind of work scales along one axis.

    Attributes:
        what: What was timed, for people.
        axis: What was varied.
        points: In the order of the axis as it was asked for.
    """

    what: str
    axis: Axis
    points: tuple[ScalePoint, ...]

    def to_dict(self) -> dict[str, Any]:
        """The study as JSON-ready values."""
        return dataclasses.asdict(self)


def run_study(what: str, axis: Axis, probes: Sequence[Probe], seconds: float) -> Study:
    """Times probes in turns, so that a drift of the machine favours none of them.

    Every probe is called once to warm up; then each of several rounds gives every probe a turn of at least one call.

    Args:
        what: What is timed, for people.
        axis: What the probes vary.
        probes: What to time.
        seconds: How long to time each probe, all turns together; a turn ends with the call during which it runs out.
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
