"""Swap two folders, so that a killed process leaves the older or the newer one.

Linux swaps two names in one step (renameat2(2) with ``RENAME_EXCHANGE``), but NFS, CIFS, FAT and many FUSE file systems
cannot. There, three renames do it; where they were interrupted, the next process that locks or opens the folder puts
the older one back.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
from pathlib import Path

__all__ = ["older_folder", "restore_folder", "swap_folders"]

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def swap_folders(staged: Path, final: Path) -> None:
    """Swaps a new folder with the one that it replaces.

    Args:
        staged: The new folder; afterwards the older one.
        final: The older folder, on the same file system.

    Raises:
        OSError: They cannot be renamed; both are where they were.
    """
    if _exchange(staged, final):
        return
    aside = older_folder(final)
    final.rename(aside)
    try:
        staged.rename(final)
    except OSError:
        aside.rename(final)
        raise
    aside.rename(staged)


def older_folder(final: Path) -> Path:
    """Where the older folder is while three renames swap it with its successor."""
    return final.parent / f".{final.name}.swapped"


def restore_folder(final: Path) -> None:
    """Undoes a swap that was interrupted before the new folder took its place; removes the older one after that.

    Args:
        final: The folder. The caller holds its lock, so that no process swaps it.
    """
    aside = older_folder(final)
    if not aside.is_dir():
        return
    if os.path.lexists(final):
        shutil.rmtree(aside, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            aside.rename(final)


def _exchange(one: Path, other: Path) -> bool:
    """Swaps two names in one step; returns whether the system and the file system can."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        return False
    status = libc.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE)
    return bool(status == 0)
