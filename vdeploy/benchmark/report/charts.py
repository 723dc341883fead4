"""Charts of a benchmark's page as inline SVG; their legends are HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vdeploy.benchmark.record import Row
from vdeploy.benchmark.report.grouping import Grouping
from vdeploy.benchmark.report.ranking import latency_front
from vdeploy.core.svg_charts import INK, MUTED, PAPER, SERIES, printable, render_svg

__all__ = ["COLOURED", "pareto_chart", "throughput_chart"]

COLOURED = len(SERIES)
"""Number of lines that can be distinguished in one chart."""

_WIDE = (5.6, 3.6)


def pareto_chart(points: Mapping[Row, float], axis: str, grouping: Grouping) -> str:
    """Draws latency against quality; the rows of the Pareto front are connected and labelled.

    Args:
        points: Quality, between 0 and 1, of rows that have a latency.
        axis: Name of the quality.
        grouping: Gives the rows their colours.

    Returns:
        An ``<svg>`` element.
    """

    def draw(axes: Any) -> None:
        front = latency_front(dict(points))
        axes.step([row.p50_ms for row in front], [points[row] for row in front], where="post", color=MUTED, linewidth=1)
        for row, value in points.items():
            colour = SERIES[grouping.colour(row) - 1]
            axes.plot([row.p50_ms], [value], "o", markersize=8, color=colour, markeredgecolor=PAPER, clip_on=False)
        for row in front:
            place = (row.p50_ms, points[row])
            axes.annotate(
                printable(row.name), place, (-6, 5), textcoords="offset points", ha="right", color=INK, fontsize=8.5
            )
        _log_axis(axes, [row.p50_ms or 0.0 for row in points])
        low, high = min(points.values()), max(points.values())
        room = max(high - low, 0.01)
        axes.set_ylim(low - 0.35 * room, high + 0.35 * room)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.1%}" if value <= 1 else "")
        axes.set_xlabel("Median latency of a call, ms")
        axes.set_ylabel(axis.capitalize())

    return render_svg("pareto", f"Scatter plot: {axis} by median latency, one point per row", _WIDE, draw)


def throughput_chart(name: str, lines: Mapping[str, Sequence[tuple[int, float]]], axis: str) -> str:
    """Draws clips per second along an axis of powers of two, one line for each name.

    Args:
        name: Unique name in the page.
        lines: Positions and throughputs by name; the first `COLOURED` are drawn, in the colours 1, 2, ...
        axis: Label of the axis.

    Returns:
        An ``<svg>`` element.
    """

    def draw(axes: Any) -> None:
        places = sorted({place for line in lines.values() for place, _ in line})
        for colour, line in zip(SERIES, lines.values(), strict=False):
            axes.plot(*zip(*sorted(line), strict=True), color=colour, marker="o", markersize=5)
        axes.set_xscale("log", base=2)
        axes.set_xticks(places, [str(place) for place in places])
        axes.minorticks_off()
        axes.set_ylim(0, 1.08 * max(rate for line in lines.values() for _, rate in line))
        axes.set_xlabel(axis)
        axes.set_ylabel("Clips per second")

    return render_svg(name, f"Line chart: clips per second by {axis.lower()}", _WIDE, draw)


def _log_axis(axes: Any, values: Sequence[float]) -> None:
    """Sets a logarithmic axis with plain numbers and space for labels on the left."""
    span = max(max(values) / min(values), 1.6)
    low, high = min(values) / span**0.5, max(values) * span**0.12
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    ticks = [step * 10.0**power for power in range(-4, 8) for step in (1, 2, 5)]
    shown = [tick for tick in ticks if low <= tick <= high]
    axes.set_xticks(shown, [f"{tick:,g}" for tick in shown])
    axes.minorticks_off()
