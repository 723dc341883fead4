"""What a bundle tells people: a model card always, a report on request, both rendered from the manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from vdeploy.artifacts.bundle.folder import MANIFEST
from vdeploy.artifacts.bundle.manifest import Manifest, StageInfo
from vdeploy.core.files import sha256_of, write_text
from vdeploy.core.templates import cell, percent, template_environment
from vdeploy.core.text import settings_text
from vdeploy.evaluation.charts import drift_chart
from vdeploy.formats import FORMATS

__all__ = ["MODEL_CARD", "REPORT", "render_model_card", "render_report", "write_documents"]

MODEL_CARD = "MODEL_CARD.md"
REPORT = "report.html"

_TEMPLATES = Path(__file__).parent / "templates"


def write_documents(manifest: Manifest, folder: Path, *, report: bool) -> Manifest:
    """Writes the model card and, if wanted, the report, and lists every file beside the artifacts.

    Args:
        manifest: What the bundle holds.
        folder: The bundle, still without its manifest.
        report: Whether to write the report.

    Returns:
        The manifest with the hashes of all further files.

    Raises:
        MissingExtraError: Jinja2, or for the report Matplotlib, is not installed.
    """
    write_text(folder / MODEL_CARD, render_model_card(manifest))
    if report:
        write_text(folder / REPORT, render_report(manifest))
    known = [folder / artifact.path for artifact in manifest.artifacts]
    further = [
        file
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name != MANIFEST and not any(file.is_relative_to(path) for path in known)
    ]
    documents = {file.relative_to(folder).as_posix(): sha256_of(file) for file in further}
    return manifest.model_copy(update={"documents": documents})


def render_model_card(manifest: Manifest) -> str:
    """What the model was trained on, how good it is, what it is for and what it is not for, as Markdown."""
    split = "test" if "test" in manifest.metrics else "valid"
    return _render(
        "MODEL_CARD.md.j2",
        manifest=manifest,
        split=split,
        split_name=_split_name(split),
        metrics=manifest.metrics.get(split),
        stand_ins=list(dict.fromkeys(a.format for a in manifest.artifacts if a.parity.executed != "artifact")),
    )


def render_report(manifest: Manifest) -> str:
    """A row for each artifact and a chart of drift for each format: one HTML page without scripts or outside assets."""
    charts = {
        name: drift_chart(name, held_out.reference, held_out.probabilities, held_out.threshold)
        for name, held_out in manifest.end_to_end.items()
    }
    reasons: dict[str, list[str]] = {}
    for name in dict.fromkeys(artifact.format for artifact in manifest.artifacts):
        if name in FORMATS:
            reasons.setdefault(FORMATS[name].reason, []).append(name)
    return _render("report.html.j2", manifest=manifest, charts=charts, reasons=reasons)


def _render(template: str, **values: Any) -> str:
    environment = template_environment(
        _TEMPLATES,
        extra="report",
        purpose="the model card",
        autoescape=template.endswith(".html.j2"),
        keep_trailing_newline=True,
    )
    environment.filters.update(
        number=_number,
        interval=_interval,
        megabytes=_megabytes,
        split=_split_name,
        stage=_stage,
    )
    text: str = environment.get_template(template).render(**values)
    return text


def _number(value: float | None) -> str:
    return "\N{EN DASH}" if value is None else f"{value:.3g}"


def _interval(bounds: tuple[float, float] | list[float] | None, unit: Literal["percent", "number"] = "percent") -> str:
    show = percent if unit == "percent" else _number
    return "\N{EN DASH}" if bounds is None else f"{show(bounds[0])} to {show(bounds[1])}"


def _megabytes(value: int) -> str:
    return f"{value / 1e6:.1f} MB"


def _stage(info: StageInfo) -> str:
    """The architecture of a stage with its settings."""
    settings = cell(settings_text(info.settings))
    return f"`{cell(info.architecture)}` ({settings})" if settings else f"`{cell(info.architecture)}`"


def _split_name(split: str) -> str:
    return {"valid": "validation", "train": "training"}.get(split, split)
