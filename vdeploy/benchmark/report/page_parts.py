"""Parts of a benchmark's page: tiles, charts, tables and bars."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from vdeploy.benchmark.record import IN_PROCESS, Benchmark, Row, Workload
from vdeploy.benchmark.report.charts import COLOURED, pareto_chart, throughput_chart
from vdeploy.benchmark.report.grouping import Grouping
from vdeploy.benchmark.report.ranking import (
    WORKLOADS,
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
    """The fastest row of a group.

    Attributes:
        group: The group: a precision or a model.
        row: The row.
        times: Its throughput over the reference's.
    """

    group: str
    row: Row
    times: float | None


@dataclasses.dataclass(frozen=True)
class Chart:
    """A chart with its legend.

    Attributes:
        title: Its heading.
        svg: The drawing.
        about: A sentence that explains it.
        key: The legend: numbers of colours and their meaning.
    """

    title: str
    svg: str
    about: str
    key: Sequence[tuple[int, str]]


@dataclasses.dataclass(frozen=True)
class Table:
    """The rows of one workload.

    Attributes:
        what: The workload.
        rows: The measured rows, by batch; ranked rows before others, then the fastest first.
        shown: Fields that at least one row has.
    """

    what: Workload
    rows: Sequence[Row]
    shown: frozenset[str]


@dataclasses.dataclass(frozen=True)
class Speed:
    """The arithmetic rate of a row, drawn as a bar.

    Attributes:
        row: The row.
        width: Its GFLOP/s over the largest figure of the chart.
        peak: The measured peak of its data type over the same.
    """

    row: Row
    width: float
    peak: float | None


def tiles(grouping: Grouping, what: Workload, reference: str | None) -> list[Tile]:
    """Chooses the fastest row of each group.

    Args:
        grouping: All rows in their groups.
        what: The workload.
        reference: Name of the rows that ratios refer to.
    """
    found = []
    for group in grouping.colours:
        best = fastest(row for row, its in grouping.groups.items() if its == group and row.what == what)
        if best is not None:
            found.append(Tile(group, best, times_reference(best, grouping.groups, reference)))
    return found


def charts(grouping: Grouping, what: Workload) -> list[Chart]:
    """Draws the charts for which enough rows have settled.

    Args:
        grouping: All rows in their groups.
        what: The workload.
    """
    ranked = [row for row in grouping.groups if row.ranked and row.what == what and row.p50_ms and row.clips_per_s]
    alone = [row for row in ranked if row.concurrency == 1]
    sent = [row for row in ranked if row.where != IN_PROCESS]
    found = (
        _pareto(alone, grouping),
        _lines("batch", "Throughput and batch", "Clips per call", alone, lambda row: row.batch),
        _lines("callers", "Throughput and callers", "Concurrent callers", sent, lambda row: row.concurrency),
    )
    return [chart for chart in found if chart is not None]


def tables(rows: Sequence[Row], reference: str | None) -> list[tuple[Table, dict[Row, float]]]:
    """Makes a table of each measured workload, with the ratios of its rows.

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
    """Compares the achieved arithmetic rate with the measured peak, for the fastest settled row of each name.

    The rows are those of the first workload in the order of `WORKLOADS` whose operations are counted.

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


def _pareto(rows: Sequence[Row], grouping: Grouping) -> Chart | None:
    smallest = min((row.batch for row in rows), default=0)
    alike = [row for row in rows if row.batch == smallest]
    axis, points = quality(alike, one_model=grouping.noun == "precision")
    if not points:
        return None
    used = {grouping.groups[row] for row in points}
    about = (
        f"Calls of {smallest} clip{'s' if smallest > 1 else ''}; further to the left is faster, further up is better. "
        "Labelled rows are on the Pareto front: no other row is better in both."
    )
    key = [(colour, group) for group, colour in grouping.colours.items() if group in used]
    return Chart(f"Latency and {axis}", pareto_chart(points, axis, grouping), about, key)


def _lines(name: str, title: str, axis: str, rows: Sequence[Row], place: Callable[[Row], int]) -> Chart | None:
    """Draws throughput along an axis for every name with at least two positions on it."""
    best: dict[str, dict[int, float]] = {}
    for row in rows:
        line = best.setdefault(row.name if row.transport is None else f"{row.name}, {row.transport}", {})
        line[place(row)] = max(line.get(place(row), 0.0), row.clips_per_s or 0.0)
    long = sorted((item for item in best.items() if len(item[1]) > 1), key=lambda item: -max(item[1].values()))
    if not long:
        return None
    drawn = {label: sorted(line.items()) for label, line in long[:COLOURED]}
    about = (
        "Clips per second." if len(long) <= COLOURED else f"Clips per second; the {COLOURED} fastest of {len(long)}."
    )
    return Chart(title, throughput_chart(name, drawn, axis), about, list(enumerate(drawn, start=1)))
