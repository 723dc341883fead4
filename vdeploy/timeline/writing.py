"""A video file out, frame by frame: H.264 where PyAV is installed, MPEG-4 by OpenCV otherwise."""

from __future__ import annotations

import contextlib
import fractions
import importlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import cv2

from vdeploy.core.errors import TimelineError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["FrameWriter", "av_writer", "open_writer", "opencv_writer"]


class FrameWriter(Protocol):
    """An open video file."""

    def write(self, picture: npt.NDArray[np.uint8]) -> None:
        """Takes the next frame, ``uint8[H, W, 3]`` BGR."""


def open_writer(file: Path, fps: float, width: int, height: int) -> contextlib.AbstractContextManager[FrameWriter]:
    """Opens a video file for writing, in the best way that is installed.

    Args:
        file: An MP4 file.
        fps: Frames a second.
        width: Of a frame, an even number.
        height: Of a frame, an even number.

    Raises:
        TimelineError: It cannot be written.
    """
    if importlib.util.find_spec("av"):
        return av_writer(file, fps, width, height)
    return opencv_writer(file, fps, width, height)


@contextlib.contextmanager
def av_writer(file: Path, fps: float, width: int, height: int) -> Iterator[FrameWriter]:
    """Writes H.264, or MPEG-4 where PyAV lacks it; see `open_writer`."""
    av: Any = importlib.import_module("av")
    with av.open(str(file), "w", container_options={"movflags": "faststart"}) as container:
        codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
        stream = container.add_stream(codec, rate=fractions.Fraction(fps).limit_denominator(1001))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"

        class Writer:
            def write(self, picture: npt.NDArray[np.uint8]) -> None:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))

        yield Writer()
        container.mux(stream.encode())


@contextlib.contextmanager
def opencv_writer(file: Path, fps: float, width: int, height: int) -> Iterator[FrameWriter]:
    """Writes MPEG-4; see `open_writer`."""
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*"mp4v"), fps, (width, height))
    if not writer.isOpened():
        raise TimelineError(f"{file.name} cannot be written by this OpenCV", "run: pip install av")
    try:
        yield writer
    finally:
        writer.release()
