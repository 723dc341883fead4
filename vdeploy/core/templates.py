"""How pages and cards are rendered: nothing undefined passes, and no line is left where only an instruction stood."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vdeploy.core.lazy_imports import require

__all__ = ["template_environment"]


def template_environment(folder: Path, *, extra: str, purpose: str, **options: Any) -> Any:
    """An environment of Jinja; HTML is escaped unless `options` says otherwise.

    Args:
        folder: Where the templates are.
        extra: The extra that installs Jinja for this purpose.
        purpose: What needs it, for the error.
        options: Further options of `jinja2.Environment`.

    Raises:
        MissingExtraError: Jinja is not installed.
    """
    jinja2: Any = require("jinja2", extra=extra, purpose=purpose)
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        **{"autoescape": True, **options},
    )
