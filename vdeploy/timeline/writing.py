"""A video file out, frame by frame: H.264, or MPEG-4 where FFmpeg was built without its encoder."""

from __future__ import annotations

import contextlib
import fractions
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import av

from vdeploy.core.errors import TimelineError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["FrameWriter", "open_writer"]


class FrameWriter(Protocol):
    """An open video file."""

    def write(self, picture: npt.NDArray[np.uint8]) -> None:
        """Takes the next frame, ``uint8[H, W, 3]`` RGB."""


@contextlib.contextmanager
def open_writer(file: Path, fps: float, width: int, height: int) -> Iterator[FrameWriter]:
    """Opens a video file for writing.

    Args:
        file: An MP4 file.
        fps: Frames a second.
        width: Of a frame, an even number.
        height: Of a frame, an even number.

    Raises:
        TimelineError: It cannot be written.
    """
    try:
        file.touch()
    except OSError as error:
        raise TimelineError(f"{file.name} cannot be written ({error.strerror})", "check the folder") from error
    with av.open(str(file.absolute()), "w", container_options={"movflags": "faststart"}) as container:
        codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
        stream = container.add_stream(codec, rate=fractions.Fraction(fps).limit_denominator(1001))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"

        class Writer:
            def write(self, picture: npt.NDArray[np.uint8]) -> None:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))

        yield Writer()
        container.mux(stream.encode())
