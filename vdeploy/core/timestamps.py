"""Timestamps in files."""

from __future__ import annotations

import datetime

__all__ = ["now"]


def now() -> str:
    """Returns the local time with its UTC offset in ISO 8601, in whole seconds."""
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")
