"""Runs a program for which a system call fails, as on a system or a file system that lacks it.

python forbidden_calls.py CALL ERRNO PROGRAM [ARGUMENT ...]
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["without_call"]

_ARCHITECTURES = {"x86_64": 0xC000_003E, "aarch64": 0xC000_00B7}
_CALLS = {
    "ptrace": {"x86_64": (101, None), "aarch64": (117, None)},
    "renameat2": {"x86_64": (316, (4, 2)), "aarch64": (276, (4, 2))},
}
"""Number of a call, and the argument that it fails for: of renameat2(2), the flag for an exchange."""

_SET_SECCOMP, _SET_NO_NEW_PRIVS, _FILTER = 22, 38, 2
_LOAD, _IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _ERRNO = 0x7FFF_0000, 0x0005_0000
_STEP = struct.Struct("@HBBI")


class _Program(ctypes.Structure):
    _fields_ = (("steps", ctypes.c_ushort), ("code", ctypes.c_void_p))


def without_call(call: str, error: int, command: Sequence[object]) -> list[str]:
    """Returns a command that runs another one, for which a system call fails.

    Args:
        call: ``"ptrace"``, or ``"renameat2"`` with the flag for an exchange.
        error: The `errno` that it fails with.
        command: Program and arguments.
    """
    return [sys.executable, str(Path(__file__).resolve()), call, str(error), *map(str, command)]


def _forbid(call: str, error: int) -> None:
    machine = platform.machine()
    number, argument = _CALLS[call][machine]
    steps = [(_LOAD, 0, 0, 4), (_IF_EQUAL, 0, 1, _ARCHITECTURES[machine]), (_LOAD, 0, 0, 0)]
    if argument is None:
        steps += [(_IF_EQUAL, 0, 1, number)]
    else:
        position, value = argument
        steps += [(_IF_EQUAL, 0, 3, number), (_LOAD, 0, 0, 16 + 8 * position), (_IF_EQUAL, 0, 1, value)]
    steps += [(_RETURN, 0, 0, _ERRNO | error), (_RETURN, 0, 0, _ALLOW)]
    code = ctypes.create_string_buffer(b"".join(_STEP.pack(*step) for step in steps))
    program = _Program(len(steps), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
    if libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(_SET_SECCOMP, _FILTER, ctypes.addressof(program), 0, 0):
        raise OSError(ctypes.get_errno(), "the kernel refuses the filter")


if __name__ == "__main__":
    _forbid(sys.argv[1], int(sys.argv[2]))
    os.execvp(sys.argv[3], sys.argv[3:])  # noqa: S606  the program in its place
