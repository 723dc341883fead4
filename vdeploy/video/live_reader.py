"""The one decoder of live sources: an address or a device, one frame after the other as they arrive."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

import av

from vdeploy.core.errors import SourceError
from vdeploy.video.containers import open_container
from vdeploy.video.frame_stream import FrameSizeError, FrameStream, NoVideoError
from vdeploy.video.pictures import ConversionError, Fit, resize

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["LIVE_HINT", "LiveInput", "LiveReader"]

LIVE_HINT = "see whether it is there and sends video"


@dataclasses.dataclass(frozen=True)
class LiveInput:
    """What FFmpeg needs to open a live source.

    Attributes:
        name: What it is called in errors; without secrets.
        target: An address, or the path of a device.
        container: FFmpeg's name of the input format; found from what arrives if left out.
        options: Of FFmpeg's protocol and format.
    """

    name: str
    target: str = dataclasses.field(repr=False)
    container: str | None = None
    options: Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False)


class LiveReader:
    """An open live source with one decoder thread.

    Args:
        source: What is opened.
        timeout_s: How long it may send nothing while it is opened and, later, before each frame.
        max_pixels: Largest width times height of a frame; ``None`` for no limit.

    Attributes:
        unconverted: Frames so far that could not be converted to RGB.

    Raises:
        SourceError: Nothing that can be decoded comes from there.
    """

    def __init__(self, source: LiveInput, *, timeout_s: float = 8.0, max_pixels: int | None = None) -> None:
        self.name = source.name
        self.unconverted = 0
        try:
            opened = open_container(source.target, source.options, container=source.container, timeout_s=timeout_s)
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise SourceError(f"{self.name} {_failure(error)}", LIVE_HINT) from None
        try:
            self._frames = FrameStream(opened, max_pixels)
        except NoVideoError:
            opened.close()
            raise SourceError(f"{self.name} sends no video", LIVE_HINT) from None

    def __enter__(self) -> LiveReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._frames.close()

    @property
    def time_us(self) -> int:
        """The sender's time of the frame grabbed last, in microseconds."""
        return self._frames.time_us

    def grab(self) -> bool:
        """Waits for the next frame; false where none came in time or the connection has ended.

        Raises:
            SourceError: A frame has too many pixels.
        """
        try:
            return self._frames.grab()
        except FrameSizeError as error:
            raise SourceError(f"{self.name} {error}", LIVE_HINT) from None

    def retrieve(self, size: int, fit: Fit = "squeeze") -> npt.NDArray[np.uint8] | None:
        """The frame grabbed last as ``uint8[size, size, 3]`` RGB; ``None`` if it cannot be converted."""
        try:
            return resize(self._frames.picture(), size, fit)
        except ConversionError:
            self.unconverted += 1
            return None


def _failure(error: Exception) -> str:
    """What FFmpeg says, without the address, which may hold a password."""
    reason = str(getattr(error, "strerror", "") or "").lower()
    if isinstance(error, FileNotFoundError) or not reason:
        return "cannot be opened"
    if isinstance(error, av.error.ExitError):
        return "cannot be reached (it sends nothing)"
    return f"cannot be {'reached' if isinstance(error, OSError) else 'opened'} ({reason})"
