"""What the process of a server is confined to: it dies with its reaper, and its shared memory stays its own."""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import struct

__all__ = ["confine", "system_library"]

PR_SET_PDEATHSIG = 1
PR_SET_SECCOMP = 22
PR_SET_NO_NEW_PRIVS = 38
SECCOMP_MODE_FILTER = 2
SECCOMP_RET_SUCCESS = 0x0005_0000
SECCOMP_RET_ALLOW = 0x7FFF_0000
BPF_LOAD = 0x20
BPF_JUMP_IF_EQUAL = 0x15
BPF_RETURN = 0x06

_FCHMOD = {"x86_64": (0xC000_003E, 91), "aarch64": (0xC000_00B7, 52)}
"""Number of the architecture, and of fchmod(2) on it."""

_BPF_STEP = struct.Struct("@HBBI")


def confine() -> None:
    """Has the child die with this process, and keeps other users out of the shared memory that it makes.

    Boost, by which Triton and its stubs share memory, makes each region readable to everybody by fchmod(2), whatever
    the umask. So a filter answers that call with success and leaves the mode as it is.
    """
    libc = system_library()
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    os.umask(0o077)
    architecture, fchmod = _FCHMOD.get(platform.machine(), (0, 0))
    if not architecture:
        return
    steps = (
        (BPF_LOAD, 0, 0, 4),
        (BPF_JUMP_IF_EQUAL, 0, 3, architecture),
        (BPF_LOAD, 0, 0, 0),
        (BPF_JUMP_IF_EQUAL, 0, 1, fchmod),
        (BPF_RETURN, 0, 0, SECCOMP_RET_SUCCESS),
        (BPF_RETURN, 0, 0, SECCOMP_RET_ALLOW),
    )
    code = ctypes.create_string_buffer(b"".join(_BPF_STEP.pack(*step) for step in steps))
    program = _Program(len(steps), ctypes.addressof(code))
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(program), 0, 0)


def system_library() -> ctypes.CDLL:
    """The C library, with ptrace(2) and prctl(2) declared."""
    library = ctypes.CDLL(None)
    library.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    library.ptrace.restype = ctypes.c_long
    library.prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
    return library


class _Program(ctypes.Structure):
    """`struct sock_fprog`."""

    _fields_ = (("steps", ctypes.c_ushort), ("code", ctypes.c_void_p))
