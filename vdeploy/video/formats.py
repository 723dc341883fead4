"""Which of FFmpeg's input formats a file may have: those that read nothing but the file."""

from __future__ import annotations

import functools

import av

__all__ = ["self_contained_formats"]

_REFERRING = {
    *("concat", "dash", "hls", "imf", "image2", "lavfi", "rtp", "rtsp", "sap", "sdp", "vobsub", "webm_dash_manifest"),
    *("alsa", "fbdev", "kmsgrab", "oss", "v4l2", "video4linux2", "x11grab", "xcbgrab"),
}
"""Playlists, session descriptions, generators and devices."""


@functools.cache
def self_contained_formats() -> str:
    """FFmpeg's names of the formats that refer to no other file, address or device, for ``format_whitelist``."""
    return ",".join(name for name in sorted(av.formats_available) if _is_input(name) and _is_self_contained(name))


def _is_input(name: str) -> bool:
    try:
        return bool(av.ContainerFormat(name, "r").is_input)
    except ValueError:
        return False


def _is_self_contained(name: str) -> bool:
    return not _REFERRING & set(name.split(","))
