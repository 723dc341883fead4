"""What stands on a benchmark's page: tiles, charts, tables and bars, chosen from its rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from vdeploy.benchmark.record import IN_PROCESS, Benchmark, Row, Workload
from vdeploy.benchmark.report.charts import COLOURED, FAMILIES, pareto_chart, throughput_chart
from vdeploy.benchmark.report.ranking import (
    WORKLOADS,
    best_by_precision,
    fastest,
    precision_family,
    quality,
    times_reference,
)

__all__ = ["Chart", "Speed", "Table", "Tile", "charts", "speeds", "tables", "tiles"]

_OPTIONAL = (
    *("p95_ms", "p99_ms", "queue_ms", "compute_ms", "size_bytes", "peak_memory_bytes", "accuracy", "auc"),
    *("agreement", "gflops", "peak_share", "spread"),
)


@dataclasses.dataclass(frozen=True)
class Tile:
    """The fastest row of a precision.

    Attributes:
        precision: The precision.
        row: The row.
        times: Its throughput over the reference's.
    """

    precision: str
    row: Row
    times: float | None


@dataclasses.dataclass(frozen=True)
class Chart:
    """A picture and what is needed to read it.

    Attributes:
        title: Its heading.
        svg: The picture.
        about: A sentence on how to read it.
        key: Numbers of colours, and what they stand for.
    """

    title: str
    svg: str
    about: str
    key: Sequence[tuple[int, str]]


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of one kind of work.

    Attributes:
        what: The kind.
        rows: Those that were measured: by batch, then ranked ones before others, then the fastest first.
        shown: Fields that at least one of them has.
    """

    what: Workload
    rows: Sequence[Row]
    shown: frozenset[str]


@dataclasses.dataclass(frozen=True)
class Speed:
    """The arithmetic of a row, to be drawn as a bar.

    Attributes:
        row: The row.
        width: Its GFLOP/s over the largest figure of the chart.
        peak: The measured peak of its data type over the same.
    """

    row: Row
    width: float
    peak: float | None


def tiles(rows: Sequence[Row], what: Workload, reference: str | None) -> list[Tile]:
    """The fastest row of each precision.

    Args:
        rows: All rows.
        what: The kind of work.
        reference: Name of the rows that ratios refer to.
    """
    best = best_by_precision(rows, what)
    return [Tile(precision, row, times_reference(row, rows, reference)) for precision, row in best.items()]


def charts(rows: Sequence[Row], what: Workload) -> list[Chart]:
    """The charts for which there are enough rows that were measured and have settled.

    Args:
        rows: All rows.
        what: The kind of work.
    """
    ranked = [row for row in rows if row.ranked and row.what == what and row.p50_ms and row.clips_per_s]
    alone = [row for row in ranked if row.concurrency == 1]
    sent = [row for row in ranked if row.where != IN_PROCESS]
    found = (
        _pareto(alone),
        _lines("batch", "Throughput and batch", "Clips a call", alone, lambda row: row.batch),
        _lines("callers", "Throughput and callers", "Callers at once", sent, lambda row: row.concurrency),
    )
    return [chart for chart in found if chart is not None]


def tables(rows: Sequence[Row], reference: str | None) -> list[tuple[Table, dict[Row, float]]]:
    """A table for each kind of work that was measured, with the ratios of its rows.

    Args:
        rows: All rows.
        reference: Name of the rows that the ratios refer to.
    """
    found = []
    for what in WORKLOADS:
        members = [row for row in rows if row.what == what and row.status == "ok"]
        if members:
            members.sort(key=lambda row: (row.batch, not row.settled, -(row.clips_per_s or 0.0)))
            shown = frozenset(name for name in _OPTIONAL if any(getattr(row, name) is not None for row in members))
            ratios = {row: ratio for row in members if (ratio := times_reference(row, rows, reference)) is not None}
            found.append((Table(what, members, shown), ratios))
    return found


def speeds(benchmark: Benchmark) -> list[Speed]:
    """Achieved arithmetic against the measured peak, for the fastest row of each name that has settled.

    They are rows of the first kind of work, in the order of `WORKLOADS`, whose arithmetic is known.

    Args:
        benchmark: The benchmark.
    """
    counted = [row for row in benchmark.rows if row.ranked and row.gflops]
    kinds = {row.what for row in counted}
    what = next((what for what in WORKLOADS if what in kinds), None)
    by_name: dict[str, list[Row]] = {}
    for row in counted:
        if row.what == what:
            by_name.setdefault(row.name, []).append(row)
    best = [first for members in by_name.values() if (first := fastest(members)) is not None]
    peaks = {row: benchmark.peak(precision_family(row)) for row in best}
    largest = max(
        [*(row.gflops or 0.0 for row in best), *(peak.gflops for peak in peaks.values() if peak)], default=1.0
    )
    best.sort(key=lambda row: -(row.gflops or 0.0))
    return [
        Speed(row, (row.gflops or 0.0) / largest, None if (peak := peaks[row]) is None else peak.gflops / largest)
        for row in best
    ]


def _pareto(rows: Sequence[Row]) -> Chart | None:
    smallest = min((row.batch for row in rows), default=0)
    axis, points = quality(row for row in rows if row.batch == smallest)
    if not points:
        return None
    used = dict.fromkeys(precision_family(row) for row in points)
    about = (
        f"Calls of {smallest} clip{'s' if smallest > 1 else ''}; further to the left is faster, further up is better. "
        "What is named and joined is not beaten in both at once."
    )
    key = [(FAMILIES.get(family, COLOURED), family) for family in used]
    return Chart(f"Latency and {axis}", pareto_chart(points, axis), about, key)


def _lines(name: str, title: str, axis: str, rows: Sequence[Row], place: Callable[[Row], int]) -> Chart | None:
    """Throughput along an axis for everything that was measured at two places of it or more."""
    best: dict[str, dict[int, float]] = {}
    for row in rows:
        line = best.setdefault(row.name if row.transport is None else f"{row.name}, {row.transport}", {})
        line[place(row)] = max(line.get(place(row), 0.0), row.clips_per_s or 0.0)
    long = sorted((item for item in best.items() if len(item[1]) > 1), key=lambda item: -max(item[1].values()))
    if not long:
        return None
    drawn = {label: sorted(line.items()) for label, line in long[:COLOURED]}
    about = "Clips a second." if len(long) <= COLOURED else f"Clips a second; the {COLOURED} fastest of {len(long)}."
    return Chart(title, throughput_chart(name, drawn, axis), about, list(enumerate(drawn, start=1)))
