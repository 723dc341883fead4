"""What a process gives up before it touches a stranger's file."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal

from vdeploy.gateway.limits import DecodingLimits

__all__ = ["confine", "leave_network"]

_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_LONGEST_S = 10.0**9
_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38


def leave_network() -> bool:
    """Moves this process, which must not have started a thread yet, into a network of its own with nothing in it.

    Returns:
        Whether the kernel allows that; many containers do not.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    return hasattr(libc, "unshare") and libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) == 0


def confine(limits: DecodingLimits) -> None:
    """Sets limits on this process that it cannot lift: processor time, memory, files, and an end at a fixed time.

    Nothing can be written to a file, no core is dumped, no privilege is gained, and the process ends with its parent.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    wanted = {
        resource.RLIMIT_CPU: limits.cpu_s,
        resource.RLIMIT_AS: limits.memory_bytes,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: limits.open_files,
    }
    for kind, limit in wanted.items():
        hard = resource.getrlimit(kind)[1]
        value = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(kind, (value, value))
    signal.setitimer(signal.ITIMER_REAL, min(limits.wall_s, _LONGEST_S))
    with contextlib.suppress(OSError):
        os.nice(5)
