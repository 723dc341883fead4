"""Atomic writes of files and folders, and hashes."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from vdeploy.core.folder_swap import swap_folders
from vdeploy.core.locks import abandoned, hold

__all__ = [
    "atomic_write",
    "cache_dir",
    "clone_or_copy",
    "link_or_copy",
    "publish_folder",
    "remove_stale",
    "sha256_of",
    "staging_folder",
    "sync_folder",
    "write_json",
    "write_text",
]

_CHUNK = 1 << 20
_TEMPORARY = ".tmp"
_FICLONE = 0x4004_9409
"""Request of ioctl(2) that shares the blocks of a file."""


def cache_dir() -> Path:
    """Returns the cache folder.

    It is ``$VDEPLOY_CACHE``, else ``$XDG_CACHE_HOME/vdeploy``, else ``~/.cache/vdeploy``.
    """
    if own := os.environ.get("VDEPLOY_CACHE"):
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "vdeploy"


def sha256_of(path: Path) -> str:
    """Returns the SHA-256 of a file's bytes as 64 hex digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Opens a temporary file that replaces ``path``, fsynced, when the block ends without an error.

    A device or a pipe, such as ``/dev/stdout``, is written to instead.

    Args:
        path: The file to create or replace. Its folder is created.

    Yields:
        A binary file object.
    """
    if _is_device(path):
        with path.open("wb") as device:
            yield device
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, descriptor, mark = _held(path, _new_file)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fchmod(file.fileno(), 0o666 & ~_umask())
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        os.close(mark)
    sync_folder(path.parent)


def _is_device(path: Path) -> bool:
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def write_text(path: Path, text: str) -> None:
    """Writes a UTF-8 text file atomically; bytes of a name that are not UTF-8 are escaped."""
    with atomic_write(path) as file:
        file.write(text.encode(errors="backslashreplace"))


def write_json(path: Path, value: Any) -> None:
    """Writes indented JSON atomically; NaN and infinities are refused."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def clone_or_copy(source: Path, target: Path) -> None:
    """Copies a file, as a reflink where the file system has them: a later change of one does not reach the other.

    Args:
        source: The file.
        target: The copy, which does not exist yet.
    """
    with source.open("rb") as original, target.open("xb") as copy:
        try:
            fcntl.ioctl(copy.fileno(), _FICLONE, original.fileno())
        except OSError:
            shutil.copyfileobj(original, copy, _CHUNK)


def link_or_copy(source: str | Path, target: str | Path) -> None:
    """Hard-links a file that is never changed in place; copies it where links are not supported.

    Args:
        source: The file.
        target: Its second name, which does not exist yet.
    """
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


@contextlib.contextmanager
def staging_folder(final: Path) -> Iterator[Path]:
    """Creates a temporary folder beside ``final`` and removes it when the block ends, unless it was published.

    Args:
        final: The folder that the content is for.

    Yields:
        An empty folder on the same file system.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    remove_stale(final.parent)
    folder, _, mark = _held(final, _new_folder)
    folder.chmod(0o777 & ~_umask())
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(mark)


def publish_folder(staged: Path, final: Path, *, keep_as: Path | None = None) -> None:
    """Replaces a folder, so that a reader sees the old or the new one, also after the process was killed.

    Everything in the new folder is on the disk before that.

    Args:
        staged: The finished folder, on the same file system as ``final``.
        final: The folder to create or replace.
        keep_as: Where to keep the old folder; ``None`` deletes it.
    """
    for path in (staged, *staged.rglob("*")):
        if path.is_dir():
            sync_folder(path)
        elif path.is_file():
            with path.open("rb") as handle:
                os.fsync(handle.fileno())
    if final.exists():
        swap_folders(staged, final)
        if keep_as is None:
            shutil.rmtree(staged)
        else:
            shutil.rmtree(keep_as, ignore_errors=True)
            staged.rename(keep_as)
    else:
        staged.rename(final)
    sync_folder(final.parent)


def remove_stale(folder: Path) -> None:
    """Removes temporary files and folders of processes of this machine that were killed.

    A process that works on one holds a lock on it, which the kernel ends with the process; its id means nothing in
    another container, and may have been given to another process since.
    """
    for path in folder.glob(f".*{_TEMPORARY}"):
        owner = re.search(r"\.(\d+)@([^@]*)@[^@]*$", path.name.removesuffix(_TEMPORARY))
        if not owner or owner[2] != _machine():
            continue
        with abandoned(path) as is_free:
            is_stale = not Path("/proc", owner[1]).exists() if is_free is None else is_free
            if is_stale and path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif is_stale:
                path.unlink(missing_ok=True)


def _held(path: Path, make: Callable[[Path], tuple[Path, int]]) -> tuple[Path, int, int]:
    """Creates a temporary file or folder and locks it; repeats if another process removed it before it was locked."""
    while True:
        temporary, descriptor = make(path)
        with contextlib.suppress(FileNotFoundError):
            mark = hold(temporary)
            if temporary.exists():
                return temporary, descriptor, mark
            os.close(mark)
        if descriptor >= 0:
            os.close(descriptor)


def _new_file(path: Path) -> tuple[Path, int]:
    descriptor, name = tempfile.mkstemp(prefix=_temporary_prefix(path), suffix=_TEMPORARY, dir=path.parent)
    return Path(name), descriptor


def _new_folder(path: Path) -> tuple[Path, int]:
    return Path(tempfile.mkdtemp(prefix=_temporary_prefix(path), suffix=_TEMPORARY, dir=path.parent)), -1


def _temporary_prefix(path: Path) -> str:
    return f".{path.name}.{os.getpid()}@{_machine()}@"


def _machine() -> str:
    return platform.node().replace("/", "-")


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def sync_folder(folder: Path) -> None:
    """Has the disk hold the names in a folder, such as those of files that were moved into it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
