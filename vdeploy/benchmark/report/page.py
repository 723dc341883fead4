"""Renders a benchmark as one HTML file without scripts or external assets."""

from __future__ import annotations

from pathlib import Path

from vdeploy.benchmark.record import IN_PROCESS, Benchmark
from vdeploy.benchmark.report.grouping import by_model, by_precision
from vdeploy.benchmark.report.labels import labels
from vdeploy.benchmark.report.page_parts import charts, speeds, tables, tiles
from vdeploy.benchmark.report.ranking import fastest, most_telling, precision_family, reference_name, times_reference
from vdeploy.benchmark.report.several_models import SeveralModels
from vdeploy.core.errors import BenchmarkError
from vdeploy.core.files import write_text
from vdeploy.core.svg_charts import printable
from vdeploy.core.templates import template_environment

__all__ = ["render_page", "write_page"]

_TEMPLATES = Path(__file__).parent / "templates"
_NONE = "\N{EN DASH}"
_TITLES = {
    "pipeline": "Frames to probabilities",
    "video": "Video file to probability",
    "extractor": "Extractor: frames to features",
    "classifier": "Classifier: features to probabilities",
}


def write_page(path: Path, shown: Benchmark | SeveralModels, reference: str | None = None) -> None:
    """Writes the page atomically; its folder is created.

    Args:
        path: The file.
        shown: The benchmark, or those of several models.
        reference: Name of the rows that ratios refer to; see `vdeploy.benchmark.report.ranking.reference_name`.

    Raises:
        BenchmarkError: There are no such rows, or the file cannot be written.
        MissingExtraError: Jinja2 or Matplotlib is not installed.
    """
    page = printable(render_page(shown, reference))
    try:
        write_text(path, page)
    except OSError as error:
        raise BenchmarkError(f"cannot write {path} ({error.strerror or error})", "choose another file") from error


def render_page(shown: Benchmark | SeveralModels, reference: str | None = None) -> str:
    """Renders the page; arguments as of `write_page`."""
    several = shown if isinstance(shown, SeveralModels) else None
    benchmark = shown if isinstance(shown, Benchmark) else shown.benchmark
    rows = benchmark.rows
    grouping = by_precision(rows) if several is None else by_model(several.model_of)
    environment = template_environment(_TEMPLATES, extra="report", purpose="the benchmark's page")
    environment.filters.update(
        number=_number,
        times=_times,
        size=_size,
        title_of=_TITLES.__getitem__,
        family=precision_family,
        colour=grouping.colour,
    )
    usual = None if several is None else several.reference
    base, what, names = reference_name(benchmark, reference or usual), most_telling(rows), labels(rows)
    best = None if what is None else fastest(row for row in rows if row.what == what)
    page: str = environment.get_template("benchmark.html.j2").render(
        benchmark=benchmark,
        models={benchmark.run: benchmark} if several is None else several.models,
        same_clips=several is None or several.same_clips,
        group=grouping.noun,
        machine=benchmark.environment,
        in_process=IN_PROCESS,
        reference=base,
        what=what,
        best=best,
        best_times=None if best is None else times_reference(best, rows, base),
        tiles=[] if what is None else tiles(grouping, what, base),
        charts=[] if what is None else charts(grouping, what),
        tables=tables(rows, base),
        speeds=speeds(benchmark),
        videos=[(names[row.key], row) for row in rows if row.status == "ok" and row.shares is not None],
        missing=[(names[row.key], row) for row in rows if row.status != "ok"],
    )
    return page


def _number(value: float | None) -> str:
    """Formats three significant digits without an exponent."""
    if value is None:
        return _NONE
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 1e-3 else f"{value:#.3g}".rstrip(".")


def _times(value: float | None) -> str:
    return _NONE if value is None else f"{_number(value)}\N{MULTIPLICATION SIGN}"


def _size(value: int | None) -> str:
    if value is None:
        return _NONE
    return f"{_number(value / 1e6)} MB" if value >= 1e6 else f"{_number(value / 1e3)} kB"
