"""Sections of RESULTS.md, rendered from `sections.md.j2`: one macro for each kind of result."""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jinja2

from benchmarks.inference import Ratio, ratios
from benchmarks.results.markdown import between, mean, percent
from vdeploy.benchmark.record import IN_PROCESS, Row
from vdeploy.benchmark.report.table import ranked_rows
from vdeploy.core.templates import template_environment

__all__ = ["section"]

_EMPTY_CELL = re.compile(r"\|\s+(?=\|)")


def section(macro: str) -> Callable[[Any], list[str]]:
    """Makes a function that renders the result of a study.

    Args:
        macro: Name of the template's macro.

    Returns:
        A function from the result, as the macro takes it, to paragraphs and tables of Markdown. It raises a KeyError
        where the result lacks a figure.
    """

    def render(found: Any) -> list[str]:
        template = _environment().get_template("sections.md.j2")
        try:
            text: str = getattr(template.module, macro)(found)
        except jinja2.UndefinedError as error:
            raise KeyError(str(error)) from error
        blocks = [block.strip() for block in re.split(r"\n\s*\n", text) if block.strip()]
        return [_table(block) if block.startswith("|") else " ".join(block.split()) for block in blocks]

    return render


def _table(block: str) -> str:
    return "\n".join(_EMPTY_CELL.sub("| ", line) for line in block.splitlines())


def _environment() -> Any:
    environment = template_environment(
        Path(__file__).parent, extra="report", purpose="RESULTS.md", autoescape=False, finalize=_finalize
    )
    environment.filters |= {
        "average": _average,
        "between": between,
        "cell": lambda text: str(text).replace("|", "\\|"),
        "code": lambda text: f"`{text}`",
        "f": _format,
        "mean": mean,
        "percent": lambda share, digits=0: None if share is None else percent(share, digits),
        "served_rows": lambda found: [row for row in _rows(found) if row.where != IN_PROCESS],
    }
    environment.globals |= {"ranked": _ranked, "ratios": _ratios}
    return environment


def _finalize(value: Any) -> Any:
    return "" if value is None else value


def _format(value: float | None, form: str, factor: float = 1.0) -> str | None:
    """A number times a factor in a format; ``None`` stays."""
    if value is None:
        return None
    return format(value if factor == 1.0 else value * factor, form)


def _average(metrics: Sequence[Mapping[str, float]], key: str) -> float:
    return statistics.mean(each[key] for each in metrics)


def _rows(found: Mapping[str, Any]) -> list[Row]:
    return [Row.model_validate(row) for row in found["rows"]]


def _ranked(found: Mapping[str, Any]) -> list[Row]:
    """Rows of the pipeline in process, the fastest first."""
    pipelines = [row for row in _rows(found) if row.what == "pipeline" and row.where == IN_PROCESS]
    return [row for _, row in ranked_rows(pipelines)]


def _ratios(found: Mapping[str, Any]) -> Sequence[Ratio]:
    measured: Any = SimpleNamespace(rows=_rows(found))
    return ratios(measured)
