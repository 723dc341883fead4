"""The page of a choice, with a picture of accuracy against time, and the model card of what was trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from training.model_choice.candidates import Candidate
from training.model_choice.choose import Choice
from vdeploy.core.errors import StudyError
from vdeploy.core.files import write_text
from vdeploy.core.svg_charts import DASHES, MUTED, SERIES, printable, render_svg
from vdeploy.core.templates import template_environment
from vdeploy.core.timestamps import now

__all__ = ["pareto_chart", "write_card", "write_page"]

_TEMPLATES = Path(__file__).parent / "templates"
_NONE = "\N{EN DASH}"
_SIZE = (8.0, 4.6)
"""Inches."""

_ROW_POINTS = 11
"""Height of a row of labels."""


def write_page(path: Path, choice: Choice) -> None:
    """Writes the page atomically.

    Args:
        path: The file.
        choice: What was measured.

    Raises:
        MissingExtraError: Jinja2 or Matplotlib is not installed.
        StudyError: The file cannot be written.
    """
    chart = pareto_chart(choice) if any(model.ms is not None for model in choice.models) else ""
    _write(path, "choice.html.j2", choice=choice, chart=chart)


def write_card(path: Path, choice: Choice, candidates: Sequence[Candidate]) -> None:
    """Writes the model card atomically, as Markdown: data, figures, use, limits and terms.

    Args:
        path: The file.
        choice: What was measured.
        candidates: The models.

    Raises:
        MissingExtraError: Jinja2 is not installed.
        StudyError: The file cannot be written.
    """
    weights = [(candidate.name, candidate.recipe.make_backbone().title, _terms(candidate)) for candidate in candidates]
    _write(path, "MODEL_CARD.md.j2", choice=choice, weights=weights, written=now())


def _terms(candidate: Candidate) -> str:
    """What is known of the terms of a candidate's weights."""
    if candidate.weights.path is None:
        return "random, for trials only"
    file = candidate.recipe.make_backbone().published_weights.get(candidate.weights.source)
    return (file.terms if file else "") or "not known to vdeploy: ask whoever published them"


def _write(path: Path, template: str, **values: Any) -> None:
    environment = template_environment(
        _TEMPLATES, extra="report", purpose="the page of a choice", autoescape=template.endswith(".html.j2")
    )
    environment.filters.update(percent=_percent, ms=_ms)
    try:
        write_text(path, printable(environment.get_template(template).render(**values)))
    except OSError as error:
        raise StudyError(f"cannot write {path} ({error.strerror or error})", "choose another: --out DIR") from error


def pareto_chart(choice: Choice) -> str:
    """Draws accuracy against milliseconds a clip, a point for each model and format; the dashed line joins the best.

    Returns:
        An ``<svg>`` element.
    """
    measured = [
        (model, sorted(model.speed.ms.items(), key=lambda item: item[1]), SERIES[index % len(SERIES)])
        for index, model in enumerate(choice.models)
        if model.speed is not None and model.speed.ms
    ]

    def draw(axes: Any) -> None:
        for model, times, colour in measured:
            height, fastest = 100 * model.accuracy.value, times[0][1]
            axes.plot([fastest] * 2, [100 * model.accuracy.low, 100 * model.accuracy.high], color=colour, linewidth=1)
            axes.annotate(model.name, (fastest, height), xytext=(6, 6), textcoords="offset points", fontsize=10)
            for row, (name, ms) in enumerate(times):
                axes.plot([ms], [height], marker="o", markersize=7, color=colour)
                below = (6, -13 - _ROW_POINTS * row)  # points may be close to one another, so each has a row
                axes.annotate(name, (ms, height), xytext=below, textcoords="offset points", fontsize=8, color=colour)
        front = _front([(ms, 100 * model.accuracy.value) for model, times, _ in measured for _, ms in times])
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
