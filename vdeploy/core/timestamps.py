"""The time, as it is written into files."""

from __future__ import annotations

import datetime

__all__ = ["now"]


def now() -> str:
    """The local time with its offset from UTC, ISO 8601, in whole seconds."""
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")
