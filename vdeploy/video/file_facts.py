"""What a video file says of itself in its header: size, rate and length, without decoding a frame."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path

from vdeploy.video.reader import VideoReader

__all__ = ["FileFacts", "read_facts"]


@dataclasses.dataclass(frozen=True)
class FileFacts:
    """Properties of a file that do not depend on what it shows.

    Attributes:
        seconds: Duration; 0 if the header does not say.
        fps: Mean frames per second; 0 if the header does not say.
        width: Width of a frame in pixels, upright.
        height: Height of a frame in pixels, upright.
        bit_rate: Mean bits per second of the whole file; 0 if its duration is unknown.
    """

    seconds: float
    fps: float
    width: int
    height: int
    bit_rate: float


def read_facts(path: Path) -> FileFacts:
    """Reads the header of a video file.

    Raises:
        ClipError: The file is missing, empty or no video.
    """
    with VideoReader(path, threading.Event()) as reader:
        seconds = reader.duration_s or (reader.frame_count / reader.fps if reader.fps else 0.0)
        return FileFacts(
            seconds=seconds,
            fps=reader.fps,
            width=reader.width,
            height=reader.height,
            bit_rate=8 * path.stat().st_size / seconds if seconds else 0.0,
        )
