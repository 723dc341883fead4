"""Why a file cannot hold a video, found from its type and its first bytes."""

from __future__ import annotations

import stat
from pathlib import Path

from vdeploy.core.errors import ClipError
from vdeploy.core.text import name_problem

__all__ = ["check_file", "is_iso", "unreadable_reason"]

_HEAD_BYTES = 4096

_ISO_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide")
_AUDIO_MAGIC = (b"ID3", b"fLaC", b"OggS", b"\xff\xfb")
_PLAYLIST_MAGIC = (b"#EXTM3U", b"ffconcat", b"<?xml", b"<MPD")


def check_file(path: Path) -> bytes:
    """Read the first bytes of a file that may be a video.

    Args:
        path: The file.

    Returns:
        Up to 4096 bytes.

    Raises:
        ClipError: The file is missing, empty, not readable, not a regular file, or a playlist.
    """
    if problem := name_problem(str(path)):
        raise ClipError(ascii(str(path)), problem)
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


def unreadable_reason(path: Path) -> str:
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
