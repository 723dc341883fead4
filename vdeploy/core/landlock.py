"""Restrict which files, TCP ports and processes this process can reach, by Linux's Landlock.

The numbers are those of ``linux/landlock.h``; see https://docs.kernel.org/userspace-api/landlock.html.
"""

from __future__ import annotations

import ctypes
import os
import stat
import sys
from collections.abc import Iterable
from pathlib import Path

__all__ = ["landlock_abi", "restrict"]

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_CREATE_RULESET_VERSION = 1
_RULE_PATH_BENEATH = 1
_PR_SET_NO_NEW_PRIVS = 38

_WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 1, 1 << 2, 1 << 3
_IOCTL_DEV = 1 << 15
_ALL_FILES_BY_ABI = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
_TCP_SINCE, _ALL_TCP = 4, 0b11
_SCOPES_SINCE, _ALL_SCOPES = 6, 0b11


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("tcp", ctypes.c_uint64), ("scopes", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


def landlock_abi() -> int:
    """Version of the kernel's Landlock; 0 if it has none, or may not be used here."""
    if sys.platform != "linux":
        return 0
    return max(_syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_CREATE_RULESET_VERSION)), 0)


def restrict(readable: Iterable[Path], *, devices: Iterable[Path] = (), network: bool = False) -> None:
    """Allow this thread, and what it starts, to read some files and nothing else; there is no way back.

    Files that are open already stay so. TCP connections are refused from Landlock 4 on, signals to other processes and
    abstract Unix sockets from 6 on.

    Args:
        readable: Files, and folders with all that lies in them. Those that cannot be found are left out.
        devices: Devices that may be written and controlled too.
        network: Whether TCP connections and abstract Unix sockets stay allowed.

    Raises:
        OSError: The kernel has no Landlock, or refuses.
    """
    abi = landlock_abi()
    if not abi:
        raise OSError("this kernel has no Landlock")
    files = next(rights for since, rights in sorted(_ALL_FILES_BY_ABI.items(), reverse=True) if abi >= since)
    tcp = _ALL_TCP if abi >= _TCP_SINCE and not network else 0
    scopes = _ALL_SCOPES if abi >= _SCOPES_SINCE and not network else 0
    ruleset = _Ruleset(files, tcp, scopes)
    size = 8 if abi < _TCP_SINCE else 16 if abi < _SCOPES_SINCE else 24
    descriptor = _checked(_CREATE_RULESET, ctypes.byref(ruleset), ctypes.c_size_t(size), ctypes.c_uint32(0))
    try:
        for path in readable:
            _allow(descriptor, path, _READ_FILE | _READ_DIR)
        for path in devices:
            _allow(descriptor, path, files & (_READ_FILE | _WRITE_FILE | _IOCTL_DEV))
        ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        _checked(_RESTRICT_SELF, ctypes.c_int(descriptor), ctypes.c_uint32(0))
    finally:
        os.close(descriptor)


def _allow(ruleset: int, path: Path, rights: int) -> None:
    try:
        opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (OSError, ValueError):
        return
    try:
        is_folder = stat.S_ISDIR(os.fstat(opened).st_mode)
        rule = _PathBeneath(rights if is_folder else rights & ~_READ_DIR, opened)
        kind = ctypes.c_int(_RULE_PATH_BENEATH)
        _checked(_ADD_RULE, ctypes.c_int(ruleset), kind, ctypes.byref(rule), ctypes.c_uint32(0))
    finally:
        os.close(opened)


def _syscall(number: int, *arguments: object) -> int:
    result = ctypes.CDLL(None, use_errno=True).syscall(ctypes.c_long(number), *arguments)
    return int(result)


def _checked(number: int, *arguments: object) -> int:
    result = _syscall(number, *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"Landlock: {os.strerror(code)}")
    return result
