"""What can be watched: a file, the address of a stream, or a V4L device."""

from __future__ import annotations

import dataclasses
import itertools
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from vdeploy.core.errors import SourceError
from vdeploy.live.addresses import shown_address, split_address
from vdeploy.video.file_checks import check_file
from vdeploy.video.live_reader import LiveInput

__all__ = ["CAPTURE_OPTIONS", "Source", "parse_source", "parse_sources"]

CAPTURE_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
"""Environment variable with options of FFmpeg for addresses, such as ``rtsp_transport;udp|max_delay;500000``. Files and
devices ignore it."""

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_SCHEMES = ("http", "https", "rtmp", "rtsp", "rtsps", "rtp", "srt", "tcp", "udp")
_USUAL_OPTIONS = {"rtsp_transport": "tcp"}


@dataclasses.dataclass(frozen=True)
class Source:
    """Something to watch.

    Attributes:
        name: How it is called everywhere; an address without its password and query.
        target: What is opened: a path or an address.
        kind: A file ends and is played at its own speed; a stream or a device is live, and opened again when it ends.
    """

    name: str
    target: str = dataclasses.field(repr=False)
    kind: Literal["file", "stream", "device"]

    def to_input(self) -> LiveInput:
        """What FFmpeg needs to open a stream or a device."""
        if self.kind == "device":
            return LiveInput(self.name, self.target, container="video4linux2,v4l2")
        return LiveInput(self.name, self.target, options=_stream_options(self.target))


def parse_source(text: str) -> Source:
    """Understands what a user typed: a path, an address such as ``rtsp://HOST/PATH``, ``/dev/videoN`` or ``N``.

    Raises:
        ClipError: A file does not exist or cannot be read.
        SourceError: An address is malformed, or its scheme is not one of a stream.
    """
    if text.isdecimal() and not Path(text).exists():
        return Source(f"/dev/video{text}", f"/dev/video{text}", "device")
    if re.fullmatch(r"/dev/video\d+", text):
        return Source(text, text, "device")
    if _SCHEME.match(text):
        parts = split_address(text)
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


def _stream_options(address: str) -> dict[str, str]:
    options = dict(_USUAL_OPTIONS) if address.lower().startswith("rtsp") else {}
    for pair in filter(None, os.environ.get(CAPTURE_OPTIONS, "").split("|")):
        name, _, value = pair.partition(";")
        options[name] = value
    return options
