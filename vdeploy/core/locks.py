"""Locks of the folders that commands publish, so that two commands never write one at the same time.

A lock is `flock(2)` on a file beside the folder. The kernel ends it with the process that holds it, whatever its id and
namespace; the id in the file is for messages alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from vdeploy.core.errors import LockedError

__all__ = ["folder_lock", "hold", "is_held"]


@contextlib.contextmanager
def folder_lock(folder: Path, remedy: str = "choose another folder") -> Iterator[None]:
    """Keeps every other process of the kind out of a folder while the block lasts.

    Args:
        folder: The folder, which need not exist; its parent is created.
        remedy: What to do instead of waiting, without a full stop.

    Raises:
        LockedError: Another process holds the lock.
        OSError: The lock's file cannot be written.
    """
    target = folder.absolute()
    target.parent.mkdir(parents=True, exist_ok=True)
    file = target.parent.resolve() / f".{target.name}.lock"
    descriptor = _take(file)
    if descriptor is None:
        raise LockedError(f"{folder} is being written by {_holder(file)}", f"wait until that is done, or {remedy}")
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {platform.node()}\n".encode())
        yield
    finally:
        file.unlink(missing_ok=True)
        os.close(descriptor)


def hold(path: Path) -> int:
    """A descriptor of a file or folder that shows to `is_held` that this process still works on it.

    The caller closes it; the kernel does where the process is killed.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    with contextlib.suppress(OSError):  # a file system without locks on folders, such as NFS
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return descriptor


def is_held(path: Path) -> bool | None:
    """Whether a process, in whatever container, works on a file or folder; `None` where that cannot be known."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return False


def _take(file: Path) -> int | None:
    """A descriptor that holds the lock; `None` where another process does."""
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), file.stat()):
                return descriptor
        os.close(descriptor)  # the process before has removed this file between our open and our lock


def _holder(file: Path) -> str:
    with contextlib.suppress(OSError):
        return file.read_text(encoding="utf-8", errors="replace").strip() or "another process"
    return "another process"
