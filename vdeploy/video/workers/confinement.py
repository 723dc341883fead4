"""The privileges that a process gives up before it opens a file."""

from __future__ import annotations

import ctypes
import resource
import signal
import sys
from pathlib import Path

from vdeploy.core.landlock import landlock_abi, restrict
from vdeploy.core.seccomp import NETWORK_CALLS, allow_only_decoding, has_seccomp
from vdeploy.video.workers.limits import DecodingLimits

__all__ = ["confine", "leave_network", "missing_confinement"]

_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_LONGEST_S = 10.0**9
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38
_RESOLVER_FILES = (
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/nsswitch.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/etc/ssl",
    "/etc/pki",
    "/etc/ca-certificates",
    "/run/systemd/resolve",
    "/usr/share/ca-certificates",
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
)
"""What looking up the host of a camera, and TLS, read."""


def missing_confinement() -> list[str]:
    """Protections that this system does not offer, as a sentence each; empty if it offers all."""
    missing = []
    if not landlock_abi():
        missing.append("no Landlock (Linux 5.13 or later): a decoder could read every file of this user")
    if not has_seccomp():
        missing.append("no seccomp with libseccomp: a decoder could make every system call")
    return missing


def leave_network() -> bool:
    """Move this process, which must not have started a thread yet, into an empty network namespace.

    Returns:
        Whether the kernel allows that; many containers do not.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    return hasattr(libc, "unshare") and libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) == 0


def confine(limits: DecodingLimits, *sources: str, network: bool = False) -> None:
    """Give up what decoding these sources does not need, for good.

    The process can write no file, dump no core, gain no privilege, and ends with its parent or at a fixed time; its
    processor time, memory and files are limited. Where the kernel has Landlock it can read the sources alone, and where
    it has seccomp it can start no process, open no socket and look into no other process.

    Args:
        limits: What it may use.
        sources: The files or devices that are decoded, or the address of a camera.
        network: Whether it may reach the network, for cameras.

    Raises:
        OSError: The kernel has one of these and refuses it.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if sys.platform == "linux":
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
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
    if landlock_abi():
        paths = [Path(source) for source in sources if "://" not in source]
        devices = [path for path in paths if path.is_char_device()]
        readable = [path for path in paths if path not in devices]
        further = [Path(name) for name in _RESOLVER_FILES] if network else []
        restrict([*readable, *further], devices=devices, network=network)
    if has_seccomp():
        allow_only_decoding(NETWORK_CALLS if network else "")
