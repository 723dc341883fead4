"""The Jinja environment of pages and model cards."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from vdeploy.core.lazy_imports import require

__all__ = ["cell", "percent", "template_environment"]


def percent(value: float | None, digits: int = 1) -> str:
    """Format a share as a percentage; a dash stands for what is not known."""
    return "\N{EN DASH}" if value is None or math.isnan(value) else f"{100 * value:.{digits}f}%"


def cell(text: object) -> str:
    """Text that cannot end a cell of a Markdown table."""
    return " ".join(str(text).split()).replace("|", "\\|")


def template_environment(folder: Path, *, extra: str, purpose: str, **options: Any) -> Any:
    """Returns a Jinja environment that escapes HTML unless `options` say otherwise and refuses undefined names.

    Its filters ``cell`` and ``percent`` are the functions of this module.

    Args:
        folder: Folder of the templates.
        extra: The extra that installs Jinja.
        purpose: What needs Jinja, for the error.
        options: Further options of `jinja2.Environment`.

    Raises:
        MissingExtraError: Jinja is not installed.
    """
    jinja2: Any = require("jinja2", extra=extra, purpose=purpose)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        **{"autoescape": True, **options},
    )
    environment.filters.update(cell=cell, percent=percent)
    return environment
