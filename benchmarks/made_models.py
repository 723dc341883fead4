"""Runs and bundles that a benchmark makes once, and uses again when it is started again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from vdeploy.artifacts.bundle import MANIFEST, Bundle
from vdeploy.artifacts.run import MANIFEST as RUN_MANIFEST
from vdeploy.artifacts.run import Run
from vdeploy.export.exporter import export_run
from vdeploy.export.options import ExportOptions
from vdeploy.formats import parse_formats

__all__ = ["made_bundle", "made_run"]


def made_run(root: Path, make: Callable[[Path], Run]) -> Path:
    """Makes a run unless it is finished.

    Args:
        root: Its folder.
        make: Makes it in this folder.

    Returns:
        The folder.
    """
    if not (root / RUN_MANIFEST).is_file():
        make(root)
    return root


def made_bundle(root: Path, run: Path, formats: str, options: ExportOptions) -> Bundle:
    """Exports a run unless its bundle is finished.

    Args:
        root: Folder of the bundle.
        run: Folder of the run.
        formats: Names of formats, separated by commas.
        options: Further choices.
    """
    if not (root / MANIFEST).is_file():
        export_run(Run.load(run), parse_formats(formats), root, options=options)
    return Bundle(root)
