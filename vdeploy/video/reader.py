"""The one decoder of video files: an open file, one frame or packet after the other."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING

import av

from vdeploy.core.errors import ClipError
from vdeploy.video.containers import open_container
from vdeploy.video.file_checks import unreadable_reason
from vdeploy.video.formats import self_contained_formats
from vdeploy.video.frame_stream import FrameSizeError, FrameStream, NoVideoError
from vdeploy.video.pictures import ConversionError, Fit, resize
from vdeploy.video.streams import other_streams, stated_duration_s, stated_frames

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

__all__ = ["OversizedFrameError", "Stopped", "VideoReader"]

_OPTIONS = {"protocol_whitelist": "file"}
"""No file makes FFmpeg open another address."""


_WHOLE_SHARE = 0.98
"""A video that ends before this share of what its header promises is incomplete."""


class Stopped(Exception):  # noqa: N818  no error: the consumer has gone
    """Decoding was given up because nobody waits for it."""


class OversizedFrameError(ClipError):
    """A frame of a file has more pixels than are allowed."""


@dataclasses.dataclass(frozen=True)
class _Facts:
    """What the container states of the video, read when it is opened: a closed container's memory is gone."""

    frame_count: int
    fps: float
    duration_s: float
    stream_index: int
    width: int
    height: int


class VideoReader:
    """An open video file with one decoder thread.

    The video is the stream that the ``ffmpeg`` program chooses. Frames come in presentation order, without those that
    an edit list cuts off. Nothing in the environment changes that.

    Args:
        path: The file.
        stop: Set to give up.
        max_pixels: Largest width times height of a frame; ``None`` for no limit.

    Raises:
        ClipError: FFmpeg cannot open the file, or it holds no video.
    """

    def __init__(self, path: Path, stop: threading.Event, max_pixels: int | None = None) -> None:
        self.path = path
        self._stop, self._max_pixels, self._strict = stop, max_pixels, True
        self._open()

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._frames.close()

    def _open(self) -> None:
        name = os.path.abspath(self.path)  # noqa: PTH100  a name that FFmpeg cannot take for a URL
        try:
            options = {**_OPTIONS, "format_whitelist": self_contained_formats()}
            container = open_container(name, options)
        except MemoryError:
            raise
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise ClipError(self.path, unreadable_reason(self.path)) from error
        try:
            self._frames = FrameStream(container, self._max_pixels, strict=self._strict)
        except NoVideoError:
            is_sound = any(stream.type == "audio" for stream in container.streams)
            container.close()
            raise ClipError(self.path, "holds no video stream" if is_sound else unreadable_reason(self.path)) from None
        self._others = len(other_streams(container, self._frames.stream))
        self._facts = _facts_of(self._frames)
        self._is_fresh = True
        self._number: int | None = -1

    def restart(self) -> None:
        """Goes back to before the first frame by opening the file anew, which is exact for every container."""
        if not self._is_fresh:
            self._frames.close()
            self._open()

    @property
    def frame_count(self) -> int:
        """Frames that the container promises to show, or that follow from its duration; 0 if it says nothing."""
        return self._facts.frame_count

    @property
    def fps(self) -> float:
        """Mean frames per second; 0 if the container says nothing."""
        return self._facts.fps

    @property
    def duration_s(self) -> float:
        """Seconds of video that the container states; 0 if it says nothing."""
        return self._facts.duration_s

    @property
    def stream_index(self) -> int:
        """Number of the video's stream in the container."""
        return self._facts.stream_index

    @property
    def width(self) -> int:
        """Pixels of a stored row, by the container."""
        return self._facts.width

    @property
    def height(self) -> int:
        """Stored rows, by the container."""
        return self._facts.height

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the container holds beside the video that is read: short sentences without the file's name."""
        if not self._others:
            return ()
        size = f"{self.width} x {self.height} pixels"
        track = f"track {self.stream_index} of {size}"
        return (f"it holds {self._others + 1} video tracks; {track} is used, as FFmpeg does",)

    @property
    def damage(self) -> str:
        """What of the video cannot be decoded, as a sentence, once the end has been reached; empty if nothing."""
        interval_s = 1 / (self.fps or 25.0)
        end_s, stated_s = self._frames.end_us / 1e6 + interval_s, self.duration_s
        if end_s < _WHOLE_SHARE * stated_s - 2 * interval_s:
            return f"only {end_s:.1f} s of the {stated_s:.1f} s that its header promises can be decoded"
        count = self._frames.undecodable
        if count > 1:
            return f"{count} packets of it cannot be decoded"
        return "a packet of it cannot be decoded" if count else ""

    @property
    def time_us(self) -> int:
        """Presentation time of the frame grabbed last, in microseconds from the start of the stream."""
        return self._frames.time_us

    def grab(self) -> bool:
        """Goes on to the next frame; false at the end.

        Raises:
            OversizedFrameError: A frame has too many pixels.
            Stopped: ``stop`` was set.
        """
        if self._stop.is_set():
            raise Stopped
        self._is_fresh = False
        if self._number is not None:
            self._number += 1
        try:
            is_there = self._frames.grab()
        except FrameSizeError as error:
            raise OversizedFrameError(self.path, str(error)) from error
        if is_there or self._number != 0 or not self._frames.is_strict:
            return is_there
        self._strict = False
        self.restart()
        return self.grab()

    def packets(self) -> Iterator[tuple[int, bool]]:
        """Steps through the packets in file order without decoding them, but for those that an edit list cuts off.

        Yields:
            The time of each as for `time_us`, and whether it holds a key frame.

        Raises:
            Stopped: ``stop`` was set.
        """
        self._is_fresh = False
        for packet in self._frames.packets():
            if self._stop.is_set():
                raise Stopped
            if not packet.is_discard:
                yield self._frames.time_of(packet), packet.is_keyframe

    def seek(self, time_us: int) -> None:
        """Goes to the key frame at or before a time, or to the start; where exactly, the next frame's time tells."""
        self._is_fresh, self._number = False, None
        if not self._frames.seek(time_us):
            self.restart()

    def picture(self) -> npt.NDArray[np.uint8]:
        """The frame grabbed last as ``uint8[H, W, 3]`` RGB, progressive, upright and in its own size.

        Raises:
            ClipError: It cannot be converted.
        """
        try:
            return self._frames.picture()
        except FrameSizeError as error:
            raise OversizedFrameError(self.path, str(error)) from error
        except ConversionError as error:
            frame = f"the frame at {self.time_us / 1e6:.2f} s" if self._number is None else f"frame {self._number}"
            raise ClipError(self.path, f"{frame} cannot be converted to RGB ({error})") from error

    def retrieve(
        self, size: int, fit: Fit = "squeeze", out: npt.NDArray[np.uint8] | None = None
    ) -> npt.NDArray[np.uint8]:
        """The frame grabbed last as ``uint8[size, size, 3]`` RGB.

        Args:
            size: Height and width in pixels.
            fit: How the picture becomes a square.
            out: Where to write it.

        Raises:
            ClipError: It cannot be converted.
        """
        return resize(self.picture(), size, fit, out)


def _facts_of(frames: FrameStream) -> _Facts:
    stream = frames.stream
    rate = stream.guessed_rate or stream.average_rate
    fps = float(rate) if rate and rate > 0 else 0.0
    duration_s = stated_duration_s(frames.container, stream)
    count = stated_frames(stream) or round(duration_s * fps)
    return _Facts(count, fps, duration_s, stream.index, stream.width, stream.height)
