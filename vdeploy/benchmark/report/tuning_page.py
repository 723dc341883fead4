"""The page of a search for a serving configuration: rate against 99th percentile, and a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vdeploy.benchmark.report.charts import COLOURED
from vdeploy.benchmark.tuning.search import Trial
from vdeploy.benchmark.tuning.table import COLUMNS, comparison, table_rows
from vdeploy.benchmark.tuning.tune import Tuned
from vdeploy.core.files import write_text
from vdeploy.core.svg_charts import ALARM, DASHES, PAPER, SERIES, printable, render_svg
from vdeploy.core.templates import template_environment

__all__ = ["write_tuning_page"]

_TEMPLATES = Path(__file__).parent / "templates"


def write_tuning_page(path: Path, found: Tuned, run: str) -> None:
    """Writes the page atomically.

    Args:
        path: The file.
        found: What was found.
        run: Name of the run that the bundle was exported from.

    Raises:
        MissingExtraError: Jinja2 or Matplotlib is not installed.
        OSError: The file cannot be written.
    """
    drawn = _drawn(found)
    page = (
        template_environment(_TEMPLATES, extra="report", purpose="the page")
        .get_template("tuning.html.j2")
        .render(
            record=found.record,
            run=run,
            sentence=comparison(found.record),
            chart=_chart(drawn, found.record.slo_p99_ms),
            drawn=[str(trial.configuration) for trial in drawn],
            columns=COLUMNS,
            rows=table_rows(found),
        )
    )
    write_text(path, printable(page))


def _drawn(found: Tuned) -> list[Trial]:
    """The best trials and the defaults, as many as can be told apart."""
    able = [trial for trial in found.trials if trial.outcome.points]
    usual = [trial for trial in able if trial.configuration == found.record.defaults]
    others = [trial for trial in able if trial not in usual]
    return sorted([*others[: COLOURED - len(usual)], *usual], key=found.trials.index)


def _chart(trials: Sequence[Trial], slo_ms: float) -> str:
    def draw(axes: Any) -> None:
        for colour, trial in zip(SERIES, trials, strict=False):
            points = [(rate, p99, stopped) for rate, p99, stopped in trial.outcome.points if p99 is not None]
            axes.plot([rate for rate, _, _ in points], [p99 for _, p99, _ in points], color=colour)
            for rate, p99, stopped in points:
                axes.plot([rate], [p99], "o", markersize=6, color=colour, markerfacecolor=PAPER if stopped else colour)
        axes.axhline(slo_ms, color=ALARM, linewidth=1, linestyle=DASHES)
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
        axes.yaxis.set_minor_formatter(lambda *_: "")
        axes.set_xlim(left=0)
        axes.set_xlabel("Clips per second")
        axes.set_ylabel("99th percentile, ms")

    return render_svg("tuning", "Line chart: 99th percentile of the latencies by rate", (8.4, 4.2), draw)
