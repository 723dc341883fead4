"""The page of a choice: a picture of accuracy against time, the table, and what to know about the data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from training.model_choice.choose import Choice
from vdeploy.core.errors import StudyError
from vdeploy.core.files import write_text
from vdeploy.core.svg_charts import DASHES, MUTED, SERIES, printable, render_svg
from vdeploy.core.templates import template_environment

__all__ = ["pareto_chart", "write_page"]

_TEMPLATES = Path(__file__).parent / "templates"
_NONE = "\N{EN DASH}"
_SIZE = (8.0, 4.2)
"""Inches."""


def write_page(path: Path, choice: Choice) -> None:
    """Writes the page atomically.

    Args:
        path: The file.
        choice: What was measured.

    Raises:
        MissingExtraError: Jinja2 or Matplotlib is not installed.
        StudyError: The file cannot be written.
    """
    environment = template_environment(_TEMPLATES, extra="report", purpose="the page of a choice")
    environment.filters.update(percent=_percent, ms=_ms)
    chart = pareto_chart(choice) if any(model.ms is not None for model in choice.models) else ""
    page: str = environment.get_template("choice.html.j2").render(choice=choice, chart=chart)
    try:
        write_text(path, printable(page))
    except OSError as error:
        raise StudyError(f"cannot write {path} ({error.strerror or error})", "choose another: --out DIR") from error


def pareto_chart(choice: Choice) -> str:
    """Draws accuracy against milliseconds a clip, a point for each model and format; the dashed line joins the best.

    Returns:
        An ``<svg>`` element.
    """
    points = [
        (ms, 100 * model.accuracy.value, f"{model.name} {name}", SERIES[index % len(SERIES)])
        for index, model in enumerate(choice.models)
        if model.speed is not None
        for name, ms in model.speed.ms.items()
    ]

    def draw(axes: Any) -> None:
        for model, colour in zip(choice.models, SERIES, strict=False):
            if model.ms is None:
                continue
            interval = [100 * model.accuracy.low, 100 * model.accuracy.high]
            axes.plot([model.ms] * 2, interval, color=colour, linewidth=1)
        for ms, accuracy, label, colour in points:
            axes.plot([ms], [accuracy], marker="o", markersize=7, color=colour)
            axes.annotate(label, (ms, accuracy), xytext=(6, 5), textcoords="offset points", fontsize=8)
        front = _front([(ms, accuracy) for ms, accuracy, _, _ in points])
        axes.plot(*zip(*front, strict=True), color=MUTED, linestyle=DASHES, linewidth=1, zorder=1)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.margins(x=0.2)
        axes.set_xlabel("Milliseconds a clip")
        axes.set_ylabel("Clips right, %")

    return render_svg("pareto", "Chart: accuracy of each model and format against its milliseconds a clip", _SIZE, draw)


def _front(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points that no other beats in both time and accuracy, by time."""
    front: list[tuple[float, float]] = []
    for ms, accuracy in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or accuracy > front[-1][1]:
            front.append((ms, accuracy))
    return front


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _ms(value: float | None) -> str:
    return _NONE if value is None else f"{value:.0f}" if value >= 10 else f"{value:.1f}"
