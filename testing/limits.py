"""Limits of the operating system that make a write fail as it does on a full disk."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator

__all__ = ["largest_file"]


@contextlib.contextmanager
def largest_file(limit: int) -> Iterator[None]:
    """Makes every write beyond a file size, in bytes, fail."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
