"""What container engines of tests may leave on a machine, whose it is, and how to get rid of it.

Each engine has a mark: the process that started it and its number there. All that it makes outside its own namespaces
bears that mark in its name: a folder, control groups and bridges. The control groups of podman's pods bear the name of
the pod, which podman gives; the engine notes it in its folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import re
import shutil
import socket
import struct
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

__all__ = ["groups_of_pods", "leftovers", "make_folder", "new_mark", "note_pod", "remove_leftovers"]

FOLDERS = Path("/var/tmp")
CGROUPS = Path("/sys/fs/cgroup")
PODS = "libpod_parent"

_BRIDGE_DELETE, _FLAGS_SET = 0x89A1, 0x8914
_NAME_SIZE, _REQUEST_SIZE = 16, 40
_MARK = r"(?P<mark>(?P<pid>\d+)-\d+)"

_numbers = itertools.count()


def new_mark() -> str:
    """A mark that no other engine on this machine has: the network interface `vdbMARK` fits into the kernel's limit."""
    return f"{os.getpid()}-{next(_numbers)}"


def make_folder(mark: str) -> Path:
    """Makes the folder of the engine with a mark."""
    return Path(tempfile.mkdtemp(prefix=f"vdeploy-engine-{mark}-", dir=FOLDERS))


def note_pod(folder: Path, pod: str) -> None:
    """Notes in an engine's folder that it runs a pod, by podman's identifier."""
    (folder / "pods").mkdir(exist_ok=True)
    (folder / "pods" / pod).touch()


def leftovers(mark: str | None = None) -> list[str]:
    """What engines have left on this machine: folders, bridges and control groups.

    Args:
        mark: Of the engine; `None` for all whose process has ended.
    """
    return [
        str(thing)
        for thing, found in (*_folders(), *_bridges(), *_cgroups())
        if found["mark"] == mark or (mark is None and not Path(f"/proc/{found['pid']}").exists())
    ]


def remove_leftovers(mark: str | None = None) -> None:
    """Removes what `leftovers` names."""
    names = leftovers(mark)
    has_run_pods = any((Path(name) / "pods").is_dir() for name in names)
    for name in names:
        thing = Path(name)
        if thing.is_relative_to(CGROUPS):
            for folder in sorted((path for path in thing.rglob("*") if path.is_dir()), reverse=True):
                _retry_rmdir(folder)
            _retry_rmdir(thing)
        elif thing.is_relative_to(FOLDERS):
            shutil.rmtree(thing, ignore_errors=True)
        else:
            _delete_bridge(name)
    for group in groups_of_pods() if has_run_pods else ():
        with contextlib.suppress(OSError):
            group.rmdir()


def groups_of_pods() -> list[Path]:
    """The control groups in which every podman of this machine has its pods; one in use cannot be removed."""
    return list(_in_hierarchies(PODS))


def _retry_rmdir(folder: Path) -> None:
    """Removes a control group; the kernel needs a moment after the last process in it has ended."""
    for _ in range(50):
        try:
            folder.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.1)
        else:
            return


def _delete_bridge(name: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket, contextlib.suppress(OSError):
        padded = name.encode().ljust(_NAME_SIZE, b"\0")
        fcntl.ioctl(any_socket, _FLAGS_SET, (padded + struct.pack("<H", 0)).ljust(_REQUEST_SIZE, b"\0"))
        fcntl.ioctl(any_socket, _BRIDGE_DELETE, padded)


def _folders() -> Iterator[tuple[Path, re.Match[str]]]:
    yield from _marked(FOLDERS.glob("vdeploy-engine-*-*"), rf"vdeploy-engine-{_MARK}-")


def _cgroups() -> Iterator[tuple[Path, re.Match[str]]]:
    yield from _marked(_in_hierarchies("vdeploy-engine-*"), rf"vdeploy-engine-{_MARK}$")
    for folder, found in _folders():
        for pod in folder.glob("pods/*"):
            yield from ((group, found) for group in _in_hierarchies(f"{PODS}/{pod.name}"))


def _in_hierarchies(pattern: str) -> Iterator[Path]:
    """Control groups by name, in the one hierarchy of version 2 and in the many of version 1."""
    yield from itertools.chain(CGROUPS.glob(pattern), CGROUPS.glob(f"*/{pattern}"))


def _bridges() -> Iterator[tuple[str, re.Match[str]]]:
    for path, found in _marked(Path("/sys/class/net").glob("vdb*"), rf"vdb{_MARK}$"):
        yield path.name, found


def _marked(paths: Iterable[Path], pattern: str) -> Iterator[tuple[Path, re.Match[str]]]:
    for path in paths:
        if found := re.match(pattern, path.name):
            yield path, found
