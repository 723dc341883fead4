"""The Jinja environment of pages and model cards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vdeploy.core.lazy_imports import require

__all__ = ["template_environment"]


def template_environment(folder: Path, *, extra: str, purpose: str, **options: Any) -> Any:
    """Returns a Jinja environment that escapes HTML unless `options` say otherwise and refuses undefined names.

    Args:
        folder: Folder of the templates.
        extra: The extra that installs Jinja.
        purpose: What needs Jinja, for the error.
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
