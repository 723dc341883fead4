"""The lock of a model repository: flock(2) on a file of its journal."""

from __future__ import annotations

import fcntl
import time
from pathlib import Path
from typing import TextIO

__all__ = ["is_taken", "take"]

LOOK_SECONDS = 0.02


def is_taken(file: Path) -> bool:
    """Whether a process holds the lock, as far as this machine can see.

    Args:
        file: The lock's file; without one, nobody does.
    """
    try:
        with file.open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def take(lock: TextIO, wait_seconds: float) -> bool:
    """Takes the lock; tried several times even without waiting, because `is_taken` may hold it for a moment.

    Args:
        lock: The lock's open file.
        wait_seconds: How long to wait for the process that holds it.

    Returns:
        Whether it was taken.
    """
    deadline = time.monotonic() + max(wait_seconds, 4 * LOOK_SECONDS)
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(LOOK_SECONDS)
        else:
            return True
