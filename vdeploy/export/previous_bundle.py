"""What an earlier bundle in the same place still is worth: proven formats of the same run stay in it."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path

from vdeploy.artifacts.bundle import MANIFEST, Bundle
from vdeploy.artifacts.run import Run
from vdeploy.core.errors import BundleError
from vdeploy.core.files import link_or_copy
from vdeploy.core.progress import say

__all__ = ["carry_over", "open_earlier"]


def open_earlier(out: Path, run: Run, *, keep: bool) -> Bundle | None:
    """Opens the bundle that an export is about to replace.

    Args:
        out: Where the new bundle goes.
        run: The run that is exported.
        keep: Whether the user wants its formats.

    Returns:
        The bundle if it is whole and of the same classifier and weights, else ``None``.

    Raises:
        BundleError: Something else than a bundle stands in the way.
    """
    if not out.exists():
        return None
    if not (out / MANIFEST).is_file():
        if not out.is_dir() or any(out.iterdir()):
            raise BundleError(f"{out} is in the way: it is no bundle", "choose another folder: --out BUNDLE")
        return None
    if not keep:
        return None
    try:
        earlier = Bundle(out)
    except BundleError as error:
        say(f"export: nothing of the earlier bundle is kept: {error.message}")
        return None
    mine = (run.info.classifier_sha256, run.info.weights_sha256)
    if (earlier.manifest.classifier.weights_sha256, earlier.manifest.extractor.weights_sha256) != mine:
        say(f"export: {out} holds another run ({earlier.manifest.run}); it is replaced as a whole")
        return None
    return earlier


def carry_over(earlier: Bundle, formats: Collection[str], staged: Path) -> None:
    """Puts the files of some formats of an earlier bundle into a new one; files are linked, for they never change.

    Args:
        earlier: The earlier bundle.
        formats: Names of the formats.
        staged: Folder of the new bundle.
    """
    for artifact in earlier.manifest.artifacts:
        if artifact.format in formats:
            folder = Path(artifact.stage) / artifact.format
            shutil.copytree(earlier.root / folder, staged / folder, copy_function=link_or_copy)
