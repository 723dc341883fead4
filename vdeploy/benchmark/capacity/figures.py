"""What is known of the speed of a bundle's formats, from which the number of servers follows."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from vdeploy.artifacts.bundle import Bundle
from vdeploy.benchmark.record import IN_PROCESS, Benchmark, Row
from vdeploy.formats import FORMATS
from vdeploy.inference.format_speeds import SpeedRecord
from vdeploy.triton.planning.tuned_serving import TunedServing

__all__ = ["Figure", "known_figures"]

_NORMAL_99 = 2.326


@dataclasses.dataclass(frozen=True)
class Figure:
    """A measured speed.

    Attributes:
        format: The format of the extractor.
        precision: Its precision; empty where the format is not known.
        machine: Where it was measured.
        source: By what.
        clip_s: Seconds of a clip on all cores; `None` where only a rate was measured.
        variation: Standard deviation of that over its mean.
        held: Rate that held an objective, and the ends of its interval; `None` where only single clips were measured.
        slo_s: That objective in seconds.
    """

    format: str
    precision: str
    machine: str
    source: str
    clip_s: float | None = None
    variation: float = 0.0
    held: tuple[float, float, float] | None = None
    slo_s: float | None = None


def known_figures(
    bundle: Bundle, tuned: TunedServing | None, speeds: SpeedRecord, benchmarks: Sequence[Benchmark]
) -> list[Figure]:
    """Collects figures: of a tuned server, else of benchmarks, else of what they have left in the cache.

    Args:
        bundle: The bundle.
        tuned: What `vdeploy tune-serving` has found here.
        speeds: What `vdeploy benchmark` has kept here.
        benchmarks: Records of it, of this machine or others; those of other bundles do not count.
    """
    found = [_of_tuned(tuned)] if tuned else []
    rows = [(benchmark, row) for benchmark in benchmarks if _is_of(benchmark, bundle) for row in benchmark.rows]
    found += [_of_row(benchmark, row) for benchmark, row in rows if _counts(row, benchmark)]
    measured = {figure.format for figure in found if figure.clip_s}
    found += [
        Figure(name, precision, _machine(speeds.cpu, speeds.cores), "vdeploy benchmark", clip_ms / 1000)
        for precision, comparison in speeds.comparisons.items()
        for name, clip_ms in comparison.clip_ms.items()
        if name not in measured
    ]
    return found


def _of_tuned(record: TunedServing) -> Figure:
    name, held = record.configuration.extractor, record.held
    ends = (held.low or held.clips_per_s, held.high or held.clips_per_s)
    return Figure(
        name,
        _precision(name),
        _machine(record.cpu, record.cores),
        f"vdeploy tune-serving --load {record.load}",
        held=(held.clips_per_s, *ends),
        slo_s=record.slo_p99_ms / 1000,
    )


def _of_row(benchmark: Benchmark, row: Row) -> Figure:
    median, late = row.p50_ms or 0.0, row.p99_ms or 0.0
    machine = _machine(benchmark.environment.cpu, benchmark.environment.cores)
    variation = max(0.0, (late / median - 1) / _NORMAL_99)
    return Figure(row.format, row.precision, machine, "vdeploy benchmark", median / 1000, variation)


def _counts(row: Row, benchmark: Benchmark) -> bool:
    is_whole = row.what == "pipeline" and row.where == IN_PROCESS and row.batch == row.concurrency == 1
    return is_whole and row.ranked and not row.peer and bool(row.p50_ms) and row.threads == benchmark.environment.cores


def _is_of(benchmark: Benchmark, bundle: Bundle) -> bool:
    held = {f"{artifact.stage}/{artifact.format}": artifact.sha256 for artifact in bundle.manifest.artifacts}
    return not held.items().isdisjoint(benchmark.sha256.items())


def _precision(format_name: str) -> str:
    return FORMATS[format_name].precision if format_name in FORMATS else ""


def _machine(cpu: str, cores: int) -> str:
    return f"{cores} cores of {cpu}"
