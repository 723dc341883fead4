"""What can be watched: a file, the address of a stream, or a V4L device."""

from __future__ import annotations

import dataclasses
import itertools
import re
import socket
import urllib.parse
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import cv2

from vdeploy.core.errors import SourceError
from vdeploy.video.reader import check_file, silence

__all__ = ["Source", "parse_source", "parse_sources", "shown_address"]

_TIMEOUT_S = 8.0
_REACH_S = 3.0
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_PORTS = {"http": 80, "https": 443, "rtmp": 1935, "rtsp": 554, "rtsps": 322}
_SCHEMES = (*_PORTS, "rtp", "srt", "tcp", "udp")


@dataclasses.dataclass(frozen=True)
class Source:
    """Something to watch.

    Attributes:
        name: How it is called everywhere; an address without its password and query.
        target: What is opened: a path, an address or the number of a device.
        kind: A file ends and is played at its own speed; a stream or a device is live, and opened again when it ends.
    """

    name: str
    target: str | int = dataclasses.field(repr=False)
    kind: Literal["file", "stream", "device"]

    def open(self) -> cv2.VideoCapture:
        """Opens it.

        Raises:
            ClipError: The file is missing or no video.
            SourceError: Nothing that can be decoded comes from there.
        """
        silence()
        if self.kind == "device":
            capture = cv2.VideoCapture(self.target, cv2.CAP_V4L2)
        else:
            if self.kind == "stream":
                self._reach()
            timeout_ms = round(_TIMEOUT_S * 1000)
            options = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, timeout_ms, cv2.CAP_PROP_READ_TIMEOUT_MSEC, timeout_ms]
            capture = cv2.VideoCapture(self.target, cv2.CAP_FFMPEG, [*options, cv2.CAP_PROP_N_THREADS, 1])
        if not capture.isOpened():
            raise SourceError(f"{self.name} cannot be opened", "see whether it is there and sends video")
        return capture

    def _reach(self) -> None:
        """Makes sure that a host answers: OpenCV opens one source at a time, and a dead one would block the others."""
        parts = urllib.parse.urlsplit(str(self.target))
        port = parts.port or _PORTS.get(parts.scheme.lower())
        if parts.scheme.lower() not in _PORTS or port is None:
            return
        try:
            socket.create_connection((parts.hostname or "", port), _REACH_S).close()
        except OSError as error:
            raise SourceError(
                f"{self.name} cannot be reached ({error.strerror or error})", "see whether it is there and sends video"
            ) from error


def parse_source(text: str) -> Source:
    """Understands what a user typed: a path, an address such as ``rtsp://HOST/PATH``, ``/dev/videoN`` or ``N``.

    Raises:
        ClipError: A file does not exist or cannot be read.
        SourceError: The scheme of an address is not one of a stream.
    """
    if text.isdecimal() and not Path(text).exists():
        return Source(f"/dev/video{text}", int(text), "device")
    if re.fullmatch(r"/dev/video\d+", text):
        return Source(text, text, "device")
    if _SCHEME.match(text):
        parts = urllib.parse.urlsplit(text)
        if parts.scheme.lower() not in _SCHEMES:
            raise SourceError(f"{parts.scheme}:// is no scheme of a stream", f"known are {', '.join(_SCHEMES)}")
        return Source(shown_address(text), text, "stream")
    check_file(Path(text))
    return Source(text, str(Path(text).absolute()), "file")


def parse_sources(texts: Iterable[str]) -> list[Source]:
    """Understands what a user typed, each once; names that are the same without their secrets get a number.

    Raises:
        ClipError: As for `parse_source`.
        SourceError: As for `parse_source`.
    """
    found: dict[str, Source] = {}
    for source in map(parse_source, dict.fromkeys(texts)):
        names = (source.name if number == 1 else f"{source.name} #{number}" for number in itertools.count(1))
        name = next(name for name in names if name not in found)
        found[name] = dataclasses.replace(source, name=name)
    return list(found.values())


def shown_address(address: str) -> str:
    """An address as it may be shown: without user, password, query and fragment."""
    parts = urllib.parse.urlsplit(address)
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
