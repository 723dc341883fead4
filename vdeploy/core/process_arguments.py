"""Mask secrets in this process's command line, which every user of the machine can read."""

from __future__ import annotations

import ctypes
import re
import sys
from pathlib import Path

__all__ = ["mask_secrets", "secret_spans"]

_SECRETS = (
    re.compile(rb"://(.*)@", re.DOTALL),
    re.compile(rb"://[^?]*\?(.+)", re.DOTALL),
    re.compile(rb"(vdk_[A-Za-z0-9_-]+)"),
)
"""User and password of an address, its query, and API keys of the gateway."""

_ARG_START, _ARG_END = 45, 46
"""Positions of the two addresses in ``/proc/self/stat``, counted from the process state."""


def mask_secrets() -> None:
    """Overwrite the secrets in this process's arguments with asterisks; ``sys.argv`` keeps them.

    They remain visible from the start of the process to this call. Does nothing on systems other than Linux.
    """
    if sys.platform != "linux":
        return
    start, end = _argument_memory()
    position = start
    for argument in ctypes.string_at(start, end - start).split(b"\0"):
        for first, last in secret_spans(argument):
            ctypes.memset(position + first, ord("*"), last - first)
        position += len(argument) + 1


def secret_spans(argument: bytes) -> list[tuple[int, int]]:
    """Find the secrets of one argument, as positions of their first byte and of the one after their last.

    Args:
        argument: Such as ``rtsp://user:password@host/path``.
    """
    return [found.span(1) for pattern in _SECRETS if (found := pattern.search(argument))]


def _argument_memory() -> tuple[int, int]:
    fields = Path("/proc/self/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    return int(fields[_ARG_START]), int(fields[_ARG_END])
