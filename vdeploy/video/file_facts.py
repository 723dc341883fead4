"""What a video file says of itself in its header: size, rate and length, without decoding a frame."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from vdeploy.video.workers.remote_reader import RemoteReader

__all__ = ["FileFacts", "read_facts"]


@dataclasses.dataclass(frozen=True)
class FileFacts:
    """Properties of a file that do not depend on what it shows.

    Attributes:
        seconds: Duration; 0 if the header does not say.
        fps: Mean frames per second; 0 if the header does not say.
        width: Width of a frame in pixels, as stored.
        height: Height of a frame in pixels, as stored.
        bit_rate: Mean bits per second of the whole file; 0 if its duration is unknown.
    """

    seconds: float
    fps: float
    width: int
    height: int
    bit_rate: float


def read_facts(path: Path, group: Sequence[Path] = ()) -> FileFacts:
    """Reads the header of a video file, in a worker process.

    Args:
        path: The file.
        group: Files of which it is one, and which one process may read one after the other.

    Raises:
        ClipError: The file is missing, empty or no video.
    """
    with RemoteReader(path, group=group) as reader:
        seconds = reader.duration_s or (reader.frame_count / reader.fps if reader.fps else 0.0)
        return FileFacts(
            seconds=seconds,
            fps=reader.fps,
            width=reader.width,
            height=reader.height,
            bit_rate=8 * path.stat().st_size / seconds if seconds else 0.0,
        )
