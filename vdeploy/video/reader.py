"""An open video file, one frame or packet after the other, and why a file cannot be opened as one."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import stat
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from vdeploy.core.errors import ClipError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

__all__ = ["SEEK_LEAD_FRAMES", "Capture", "Stopped", "check_file", "is_iso", "one_opencv_thread", "resize", "silence"]

SEEK_LEAD_FRAMES = 16
"""OpenCV seeks to the key frame at or before this many frames ahead of its target, then decodes up to the target."""

_HEAD_BYTES = 4096
_OPENCV_SILENT = 0

_ISO_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide")
_AUDIO_MAGIC = (b"ID3", b"fLaC", b"OggS", b"\xff\xfb")
_PLAYLIST_MAGIC = (b"#EXTM3U", b"ffconcat", b"<?xml", b"<MPD")


class _OpenCVThreads:
    """Counts who wants OpenCV on one thread; the setting belongs to the whole process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holders = 0
        self._before = 0

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            if self._holders == 0:
                self._before = cv2.getNumThreads()
                cv2.setNumThreads(1)
            self._holders += 1
        try:
            yield
        finally:
            with self._lock:
                self._holders -= 1
                if self._holders == 0:
                    cv2.setNumThreads(self._before)


one_opencv_thread = _OpenCVThreads()


class Stopped(Exception):  # noqa: N818  no error: the consumer has gone
    """Decoding was given up because nobody waits for it."""


class Capture:
    """An open video with one decoder thread.

    Args:
        path: The file.
        stop: Set to give up.
        packets_only: Step through packets in file order instead of decoded frames in presentation order.

    Raises:
        ClipError: FFmpeg cannot open the file.
    """

    def __init__(self, path: Path, stop: threading.Event, *, packets_only: bool = False) -> None:
        self.path = path
        self._stop, self._packets_only = stop, packets_only
        self._open()

    def __enter__(self) -> Capture:
        return self

    def __exit__(self, *_: object) -> None:
        self._capture.release()

    def _open(self) -> None:
        name = os.path.abspath(self.path)  # noqa: PTH100  a name that FFmpeg cannot take for a URL
        self._capture = cv2.VideoCapture(name, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
        if not self._capture.isOpened():
            raise ClipError(self.path, _why_unreadable(self.path))
        self._capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
        if self._packets_only:
            self._capture.set(cv2.CAP_PROP_FORMAT, -1)
        self._is_fresh = True

    def restart(self) -> None:
        """Goes back to before the first frame by opening the file anew, which is exact for every container."""
        if not self._is_fresh:
            self._capture.release()
            self._open()

    @property
    def frame_count(self) -> int:
        """Frames, as told or estimated by the container; 0 if it says nothing."""
        return int(max(self._number(cv2.CAP_PROP_FRAME_COUNT), 0))

    @property
    def fps(self) -> float:
        """Mean frames per second; 0 if the container says nothing."""
        return max(self._number(cv2.CAP_PROP_FPS), 0.0)

    @property
    def time_us(self) -> int:
        """Presentation time of the frame or packet grabbed last, in microseconds from the start of the stream."""
        return round(self._number(cv2.CAP_PROP_POS_MSEC) * 1000)

    @property
    def is_key(self) -> bool:
        """Whether the packet grabbed last holds a key frame."""
        return bool(self._capture.get(cv2.CAP_PROP_LRF_HAS_KEY_FRAME))

    def grab(self) -> bool:
        """Goes on to the next frame or packet; false at the end."""
        if self._stop.is_set():
            raise Stopped
        self._is_fresh = False
        return bool(self._capture.grab())

    def seek(self, time_us: int) -> None:
        """Goes to the key frame at or before a time and a few frames on; where exactly, the next frame's time tells."""
        frame = math.ceil(time_us * 1e-6 * self.fps) + SEEK_LEAD_FRAMES
        self._capture.set(cv2.CAP_PROP_POS_FRAMES, frame)

    def picture(self, index: int) -> npt.NDArray[np.uint8]:
        """The frame grabbed last as ``uint8[H, W, 3]`` BGR, upright and in its own size.

        Args:
            index: Its number, for the error.

        Raises:
            ClipError: It cannot be converted.
        """
        done, frame = self._capture.retrieve()
        if not done:
            raise ClipError(self.path, f"frame {index} cannot be converted to RGB")
        bgr: npt.NDArray[np.uint8] = frame
        return bgr

    def retrieve(self, index: int, size: int) -> npt.NDArray[np.uint8]:
        """The frame grabbed last as ``uint8[size, size, 3]`` RGB."""
        rgb: npt.NDArray[np.uint8] = cv2.cvtColor(resize(self.picture(index), size), cv2.COLOR_BGR2RGB)
        return rgb

    def _number(self, property_id: int) -> float:
        value = self._capture.get(property_id)
        return value if math.isfinite(value) else 0.0


def check_file(path: Path) -> bytes:
    """Reads the first bytes of a file that may be a video, or says why it cannot be one."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise ClipError(ascii(str(path)), "has a name that is not UTF-8, rename it") from None
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise ClipError(path, "is a folder, not a video file")
        if not stat.S_ISREG(mode):
            raise ClipError(path, "is not a regular file")
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except FileNotFoundError:
        raise ClipError(path, "does not exist") from None
    except OSError as error:
        raise ClipError(path, f"cannot be read ({error.strerror})") from error
    if not head:
        raise ClipError(path, "is empty")
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(_PLAYLIST_MAGIC):
        raise ClipError(path, "is a playlist, not a video file")
    return head


def is_iso(head: bytes) -> bool:
    """Whether the first bytes of a file are those of an MP4 or MOV file."""
    return head[4:8] in _ISO_BOXES


def _why_unreadable(path: Path) -> str:
    """Why FFmpeg finds no video in a file that can be read."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if is_iso(head):
        index = _iso_index(path)
        if index is None:
            return "is incomplete: its index (the moov box) is missing"
        return "is not a readable video" if b"vide" in index else "holds no video stream"
    is_audio = head.startswith(_AUDIO_MAGIC) or (head.startswith(b"RIFF") and head[8:12] == b"WAVE")
    return "holds no video stream" if is_audio else "is not a readable video"


def _iso_index(path: Path) -> bytes | None:
    """The complete moov box of an MP4 or MOV file."""
    end = path.stat().st_size
    with path.open("rb") as file:
        start = 0
        while start + 8 <= end:
            file.seek(start)
            size, kind = int.from_bytes(file.read(4), "big"), file.read(4)
            if size == 1:
                size = int.from_bytes(file.read(8), "big")
            size = size or end - start
            if size < 8 or start + size > end:
                return None
            if kind == b"moov":
                file.seek(start)
                return file.read(size)
            start += size
    return None


@functools.cache
def silence() -> None:
    """Keeps FFmpeg's and OpenCV's complaints off stderr, unless the environment asks for them."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    if "OPENCV_LOG_LEVEL" not in os.environ:
        set_level = getattr(cv2, "setLogLevel", None) or cv2.utils.logging.setLogLevel
        set_level(_OPENCV_SILENT)


def resize(frame: npt.NDArray[np.uint8], size: int) -> npt.NDArray[np.uint8]:
    """Shrinks the axes that are too long by averaging areas, then enlarges those that are too short bilinearly."""
    height, width = frame.shape[:2]
    if height > size or width > size:
        frame = cv2.resize(frame, (min(width, size), min(height, size)), interpolation=cv2.INTER_AREA)
    if height < size or width < size:
        frame = cv2.resize(frame, (size, size), interpolation=cv2.INTER_LINEAR)
    return frame
