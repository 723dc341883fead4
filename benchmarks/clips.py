"""Clips of a benchmark: a folder of the user, or generated ones that go away after it."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from vdeploy.dataset import Dataset, scan
from vdeploy.synthetic import synthesize

__all__ = ["open_clips"]


@contextlib.contextmanager
def open_clips(source: Path | None, clips: int) -> Iterator[Dataset]:
    """Scan a folder of clips.

    Args:
        source: The folder; clips are generated if left out.
        clips: How many to generate.

    Raises:
        DatasetError: The folder holds no data set.
    """
    if source is not None:
        yield scan(source)
        return
    with tempfile.TemporaryDirectory() as folder:
        synthesize(Path(folder) / "clips", clips=clips)
        yield scan(Path(folder) / "clips")
