"""Differences between two benchmarks that may explain a difference of their timings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from vdeploy.benchmark.record import Benchmark

__all__ = ["differences"]

_CLOCK = 0.05
_LOAD = 0.5
"""Difference of the load average, relative to the cores, above which it is reported."""

_PEAK = 0.05


def differences(before: Benchmark, after: Benchmark) -> Iterator[str]:
    """Lists differences of machine, versions and models, the most relevant first.

    Args:
        before: The benchmark to compare with.
        after: The benchmark in question.

    Yields:
        One line for each, such as ``cpu: this one, then that one``.
    """
    yield from _clip(before, after)
    yield from _machine(before, after)
    yield from _load(before, after)
    yield from _peaks(before, after)
    first, second = before.environment, after.environment
    versions_before = {"vdeploy": before.vdeploy_version, "Python": first.python, **first.versions}
    versions_after = {"vdeploy": after.vdeploy_version, "Python": second.python, **second.versions}
    yield from _mapping("version of ", versions_before, versions_after)
    for name in sorted(before.sha256.keys() & after.sha256.keys()):
        if before.sha256[name] != after.sha256[name]:
            yield f"{name}: not the same file"


def _clip(before: Benchmark, after: Benchmark) -> Iterator[str]:
    shapes = [f"{one.clip_frames} frames of {one.clip_size} px, features {one.layer}" for one in (before, after)]
    if shapes[0] != shapes[1]:
        yield f"clips: {shapes[0]}, then {shapes[1]}; the latencies are of different work"


def _machine(before: Benchmark, after: Benchmark) -> Iterator[str]:
    first, second = before.environment, after.environment
    for field in ("cpu", "cores", "threads", "memory_bytes", "gpu", "driver", "system"):
        one, other = getattr(first, field), getattr(second, field)
        if one != other:
            yield f"{field.removesuffix('_bytes')}: {_shown(one)}, then {_shown(other)}"
    if first.clocks_mhz and second.clocks_mhz:
        one, other = (sum(clocks) / len(clocks) for clocks in (first.clocks_mhz, second.clocks_mhz))
        if _apart(one, other, _CLOCK):
            yield f"clock at the start: {one:.0f} MHz, then {other:.0f} MHz"


def _load(before: Benchmark, after: Benchmark) -> Iterator[str]:
    one, other = before.environment.load_average[0], after.environment.load_average[0]
    if abs(one - other) > _LOAD * max(before.environment.cores, 1):
        yield f"load average at the start: {one:.1f}, then {other:.1f}; the machine was not equally busy"


def _peaks(before: Benchmark, after: Benchmark) -> Iterator[str]:
    for peak in before.peaks:
        other = after.peak(peak.data_type)
        if other is not None and other.how == peak.how and _apart(peak.gflops, other.gflops, _PEAK):
            change = other.gflops / peak.gflops - 1
            yield (
                f"measured {peak.data_type} peak: {peak.gflops:.0f}, then {other.gflops:.0f} GFLOP/s ({change:+.0%}); "
                "the machine was not equally fast"
            )


def _mapping(what: str, before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[str]:
    for name in sorted(before.keys() | after.keys(), key=str.casefold):
        one, other = before.get(name), after.get(name)
        if one != other:
            yield f"{what}{name}: {_shown(one)}, then {_shown(other)}"


def _apart(one: float, other: float, share: float) -> bool:
    low, high = sorted((one, other))
    return low > 0 and high / low - 1 > share


def _shown(value: object) -> str:
    return "none" if value is None else str(value)
