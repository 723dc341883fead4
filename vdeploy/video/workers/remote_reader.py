"""A video that a worker process holds open: the interface of `vdeploy.video.reader.VideoReader`."""

from __future__ import annotations

import json
import math
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vdeploy.core.errors import ClipError
from vdeploy.video.file_checks import check_file
from vdeploy.video.reader import Stopped
from vdeploy.video.workers.answers import raise_refusal
from vdeploy.video.workers.limits import DecodingLimits
from vdeploy.video.workers.message_reader import Message
from vdeploy.video.workers.messages import Request
from vdeploy.video.workers.pool import SILENCE_SECONDS, workers
from vdeploy.video.workers.process import DecoderError

if TYPE_CHECKING:
    import numpy.typing as npt

    from vdeploy.video.pictures import Fit

__all__ = ["RemoteReader"]

_LARGEST_PICTURE_BYTES = 1 << 30


class RemoteReader:
    """An open video file, decoded by a worker process, which it holds until it is closed.

    Args:
        path: The file.
        stop: Set to give up.
        group: Files of which it is one, and which one process may read one after the other.

    Attributes:
        path: The file.
        frame_count: Frames that the container promises to show, or that follow from its duration; 0 if it says nothing.
        fps: Mean frames per second; 0 if the container says nothing.
        duration_s: Seconds of video that the container states; 0 if it says nothing.
        width: Width of a frame in pixels, as stored.
        height: Height of a frame in pixels, as stored.
        warnings: What the container holds beside the video that is read.
        time_us: Presentation time of the frame grabbed last, in microseconds from the start of the stream.

    Raises:
        ClipError: The file cannot be opened, or it holds no video.
        UserError: No decoder can be started.
    """

    def __init__(self, path: Path, stop: threading.Event | None = None, group: Sequence[Path] = ()) -> None:
        check_file(path)
        self.path = path
        self.time_us = 0
        self._stop = stop or threading.Event()
        members = tuple(os.path.abspath(one) for one in group)  # noqa: PTH100  resolve() would follow links
        source = os.path.abspath(path)  # noqa: PTH100
        limits = DecodingLimits.for_own_files()
        request = Request("reader", source, limits, {}, members, largest=_LARGEST_PICTURE_BYTES)
        self._lease = workers.borrow()
        self._process = self._lease.__enter__()
        self._messages = self._process.run(request, self._check, silence_s=SILENCE_SECONDS)
        try:
            facts = self._answer().values
            self.frame_count, self.fps = int(facts["frame_count"]), float(facts["fps"])
            self.duration_s = float(facts["duration_s"])
            self.width, self.height = int(facts["width"]), int(facts["height"])
            self.warnings = tuple(str(warning) for warning in facts["warnings"])
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> RemoteReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file and gives the process back."""
        try:
            if self._process.source and not self._stop.is_set():
                self._command("close")
        except (ClipError, Stopped):
            pass
        finally:
            self._lease.__exit__(None, None, None)

    def grab(self) -> bool:
        """Goes on to the next frame; false at the end.

        Raises:
            ClipError: The decoder has ended.
            Stopped: ``stop`` was set.
        """
        if self._stop.is_set():
            raise Stopped
        values = self._command("grab").values
        self.time_us = int(values["time_us"])
        return bool(values["is_there"])

    def retrieve(self, size: int, fit: Fit = "squeeze") -> npt.NDArray[np.uint8]:
        """The frame grabbed last as ``uint8[size, size, 3]`` RGB.

        Args:
            size: Height and width in pixels.
            fit: How the picture becomes a square.

        Raises:
            ClipError: It cannot be converted, or the decoder has ended.
        """
        return self._picture(self._command("retrieve", size, fit))

    def picture(self) -> npt.NDArray[np.uint8]:
        """The frame grabbed last as ``uint8[H, W, 3]`` RGB, progressive, upright and in its own size.

        Raises:
            ClipError: It cannot be converted, or the decoder has ended.
        """
        return self._picture(self._command("picture"))

    def seek(self, time_us: int) -> None:
        """Goes to the key frame at or before a time, or to the start; where exactly, the next frame's time tells."""
        self._command("seek", time_us)

    def restart(self) -> None:
        """Goes back to before the first frame."""
        self._command("restart")

    def _command(self, *command: Any) -> Message:
        try:
            self._process.send(json.dumps(command).encode() + b"\n")
        except DecoderError as error:
            raise self._lost(error) from error
        return self._answer()

    def _answer(self) -> Message:
        try:
            message = next(self._messages, None)
        except DecoderError as error:
            raise self._lost(error) from error
        if message is None:
            raise ClipError(self.path, "cannot be decoded any more")
        raise_refusal(self.path, message.values)
        return message

    def _picture(self, message: Message) -> npt.NDArray[np.uint8]:
        shape = tuple(int(length) for length in message.values["shape"])
        if len(message.payload) != math.prod(shape):
            raise ClipError(self.path, "cannot be decoded: its decoder sent something other than a picture")
        return np.frombuffer(message.payload, np.uint8).reshape(shape)

    def _lost(self, error: DecoderError) -> ClipError:
        return ClipError(self.path, f"cannot be decoded: its decoder {error}")

    def _check(self) -> None:
        if self._stop.is_set():
            raise Stopped
