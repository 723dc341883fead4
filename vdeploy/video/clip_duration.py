"""How long the clips of a data set last: what a window over a longer video has to be like."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

from vdeploy.core.errors import ClipError
from vdeploy.video.workers.remote_reader import RemoteReader

__all__ = ["median_seconds"]

_MOST_FILES = 101

_SHORTEST_S = 0.04
"""What is shorter than a frame of usual videos is no duration but a wrong frame rate in a header."""


def median_seconds(paths: Sequence[Path]) -> float | None:
    """The median duration of videos, by their headers; files whose headers say nothing, or nonsense, do not count.

    Args:
        paths: The files; of many, about a hundred are looked at, evenly chosen.

    Returns:
        Seconds, to the millisecond; ``None`` if no header says how long its video is.
    """
    chosen = paths[:: max(1, len(paths) // _MOST_FILES)]
    found = [seconds for path in chosen for seconds in _seconds(path, chosen)]
    return round(statistics.median(found), 3) if found else None


def _seconds(path: Path, group: Sequence[Path]) -> Iterator[float]:
    try:
        with RemoteReader(path, group=group) as reader:
            seconds = reader.frame_count / reader.fps if reader.fps else reader.duration_s
            if seconds >= _SHORTEST_S:
                yield seconds
    except (ClipError, OSError):
        return
