"""The frames of an open container, file or live, one after the other in presentation order."""

from __future__ import annotations

import contextlib
import math
from fractions import Fraction
from typing import TYPE_CHECKING

import av

from vdeploy.video.deinterlacing import deinterlace
from vdeploy.video.pictures import PictureConverter
from vdeploy.video.streams import choose_stream

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    import numpy as np
    import numpy.typing as npt
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

__all__ = ["FrameSizeError", "FrameStream", "NoVideoError"]


_FAULT_MARKERS = {"mpeg", "mpegts", "rtp", "rtsp"}


class FrameSizeError(Exception):
    """A frame has more pixels than are allowed."""


class NoVideoError(Exception):
    """A container holds no video stream."""


class FrameStream:
    """Decodes one video stream on one thread.

    Interlaced frames are deinterlaced when their picture is asked for, and the display matrix is applied. Packets that
    cannot be decoded are counted and left out.

    Args:
        container: The open container; closed with the stream.
        max_pixels: Largest width times height of a frame; ``None`` for no limit.
        strict: Whether a frame of Motion JPEG that is damaged counts as undecodable. Its decoder fills the rest of the
            picture with what the memory held before.

    Attributes:
        stream: The video stream.
        is_strict: Whether ``strict`` applies to its codec.
        undecodable: Packets that could not be decoded so far.
        end_us: Presentation time of the last frame, as for `time_us`, once the end has been reached.

    Raises:
        NoVideoError: There is no video stream that can be decoded.
    """

    def __init__(self, container: InputContainer, max_pixels: int | None = None, *, strict: bool = False) -> None:
        stream = choose_stream(container)
        if stream is None:
            raise NoVideoError
        self.container, self.stream = container, stream
        self._max_pixels = max_pixels
        stream.codec_context.thread_count = 1
        self.is_strict = strict and stream.codec_context.name == "mjpeg"
        if self.is_strict:
            stream.codec_context.options = {"err_detect": "explode"}
        for other in container.streams:
            if other.index != stream.index:
                other.discard = av.stream.Discard.all
        self._converter = PictureConverter()
        self._base = stream.time_base or Fraction(1, av.time_base)
        self._marks_faults = container.format.name in _FAULT_MARKERS
        self.undecodable = self.end_us = 0
        self._reset()

    def _reset(self) -> None:
        self._frames = self._decode()
        self._before: av.VideoFrame | None = None
        self._current: av.VideoFrame | None = None
        self._after: av.VideoFrame | None = None

    def close(self) -> None:
        """Closes the container."""
        self._frames.close()
        self._before = self._current = self._after = None
        self.container.close()

    def grab(self) -> bool:
        """Goes on to the next frame; false at the end.

        Raises:
            FrameSizeError: A frame has too many pixels.
            TimeoutError: A live source sends nothing.
        """
        following = self._after or next(self._frames, None)
        if following is None and self._current is not None:
            self.end_us = self.time_us
        self._before, self._current, self._after = self._current, following, None
        return following is not None

    def picture(self) -> npt.NDArray[np.uint8]:
        """The frame grabbed last as ``uint8[H, W, 3]`` RGB, progressive, upright and in its own size.

        Raises:
            ConversionError: It cannot be converted.
            FrameSizeError: The frame after it, which deinterlacing needs, has too many pixels.
        """
        frame = self._current
        assert frame is not None  # noqa: S101  a frame was grabbed
        if not frame.interlaced_frame:
            return self._converter.rgb(frame)
        if self._after is None:
            self._after = next(self._frames, None)
        return self._converter.rgb(deinterlace(self._before, frame, self._after), frame)

    @property
    def time_us(self) -> int:
        """Presentation time of the frame grabbed last, in microseconds from the start that the container states."""
        return 0 if self._current is None else self.time_of(self._current)

    def time_of(self, item: av.VideoFrame | Packet[VideoStream]) -> int:
        """When a frame or packet is shown, as for `time_us`; by its decoding time where it has no other."""
        stamp = item.pts if item.pts is not None else item.dts
        return 0 if stamp is None else round((stamp - (self.stream.start_time or 0)) * self._base * 1_000_000)

    def seek(self, time_us: int) -> bool:
        """Goes to the key frame at or before a time, as far as the container's index is right; whether it can."""
        stamp = math.ceil(Fraction(2 * time_us + 1, 2_000_000) / self._base) + (self.stream.start_time or 0)
        try:
            self.container.seek(stamp, stream=self.stream)
        except av.error.FFmpegError:
            return False
        self._frames.close()
        self._reset()
        return True

    def packets(self) -> Iterator[Packet[VideoStream]]:
        """The packets of the stream in file order, undecoded; a read error ends them.

        A packet that the end of the file cuts off is counted as undecodable and left out, but for broadcast containers,
        which mark what follows a fault: decoders fill the rest of its picture with what the memory held before.
        """
        with contextlib.suppress(av.error.FFmpegError):
            for packet in self.container.demux(self.stream):
                if packet.is_corrupt and not self._marks_faults:
                    self.undecodable += 1
                elif packet.size:
                    yield packet

    def _decode(self) -> Generator[av.VideoFrame, None, None]:
        for packet in self.packets():
            yield from self._decoded(packet)
        yield from self._decoded(None)

    def _decoded(self, packet: Packet[VideoStream] | None) -> list[av.VideoFrame]:
        try:
            frames = self.stream.codec_context.decode(packet)
        except EOFError:
            return []
        except av.error.FFmpegError:
            self.undecodable += 1
            return []
        for frame in frames:
            if self._max_pixels is not None and frame.width * frame.height > self._max_pixels:
                size = f"{frame.width} x {frame.height}"
                raise FrameSizeError(f"has frames of {size} pixels; {self._max_pixels} are allowed")
        return frames
