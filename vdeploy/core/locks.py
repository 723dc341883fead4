"""Locks of the folders and files that commands publish, so that two commands never write one at the same time.

A lock is `flock(2)` on a file beside the folder. The kernel ends it with the process that holds it, whatever its id and
namespace; the id in the file is for messages alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path

from vdeploy.core.errors import LockedError
from vdeploy.core.folder_swap import older_folder, restore_folder

__all__ = ["abandoned", "folder_lock", "hold", "output_locks", "settle_folder"]

_RETRY_SECONDS = 0.1
_SWAP_SECONDS = 2.0
"""A process that is not killed has swapped two folders in this time."""


@contextlib.contextmanager
def folder_lock(folder: Path, remedy: str = "choose another folder", *, wait_seconds: float = 0.0) -> Iterator[None]:
    """Keeps every other process of the kind out of a folder, or a file, while the block lasts.

    Args:
        folder: The folder, which need not exist; its parent is created.
        remedy: What to do instead of waiting, without a full stop.
        wait_seconds: How long to wait for a process that holds it.

    Raises:
        LockedError: Another process holds the lock.
        OSError: The lock's file cannot be written.
    """
    target = folder.absolute()
    missing = [parent for parent in target.parents if not parent.exists()]
    target.parent.mkdir(parents=True, exist_ok=True)
    file = target.parent.resolve() / f".{target.name}.lock"
    deadline = time.monotonic() + wait_seconds
    while (descriptor := _take(file)) is None and time.monotonic() < deadline:
        time.sleep(_RETRY_SECONDS)
    if descriptor is None:
        raise LockedError(f"{folder} is being written by {_holder(file)}", f"wait until that is done, or {remedy}")
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {platform.node()}\n".encode())
        restore_folder(target)
        yield
    finally:
        file.unlink(missing_ok=True)
        os.close(descriptor)
        with contextlib.suppress(OSError):  # a folder that something was written to stays
            for parent in missing:
                parent.rmdir()


@contextlib.contextmanager
def output_locks(*outputs: Path | None, remedy: str) -> Iterator[None]:
    """Keeps every other process of the kind out of what a command writes at its end, while the block lasts.

    So the outputs of one command are of one run, and no command works for minutes to have its result overwritten.

    Args:
        outputs: Files and folders, which need not exist; `None` and repetitions are left out.
        remedy: What to do instead of waiting, without a full stop.

    Raises:
        LockedError: Another process holds one of the locks.
        OSError: The file of a lock cannot be written.
    """
    with contextlib.ExitStack() as stack:
        for output in dict.fromkeys(path.absolute() for path in outputs if path is not None):
            stack.enter_context(folder_lock(output, remedy))
        yield


def settle_folder(folder: Path) -> None:
    """Puts a folder back whose replacement was interrupted, before it is read; see `vdeploy.core.folder_swap`.

    Args:
        folder: The folder. Does nothing if it exists, or if it cannot be put back.
    """
    deadline = time.monotonic() + _SWAP_SECONDS
    while not folder.exists() and older_folder(folder).is_dir() and time.monotonic() < deadline:
        try:
            with folder_lock(folder):  # which puts it back
                return
        except LockedError:
            time.sleep(_RETRY_SECONDS)
        except OSError:
            return


def hold(path: Path) -> int:
    """A descriptor of a file or folder that shows to `abandoned` that this process still works on it.

    The caller closes it, after it has seen that the file was not removed meanwhile; the kernel does where the process
    is killed.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    with contextlib.suppress(OSError):  # a file system without locks on folders, such as NFS
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


@contextlib.contextmanager
def abandoned(path: Path) -> Iterator[bool | None]:
    """Whether no process, in whatever container, works on a file or folder; none takes it while the block lasts.

    Yields:
        `None` where that cannot be known.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        yield None
        return
    try:
        yield _locked(descriptor)
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool | None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _take(file: Path) -> int | None:
    """A descriptor that holds the lock; `None` where another process does."""
    while True:
        try:
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:  # the process before has removed the empty folder that it had made
            file.parent.mkdir(parents=True, exist_ok=True)
            continue
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
