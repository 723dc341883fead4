"""Start a server in a process group, and end it with all of its processes and shared memory."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from vdeploy.core.child_python import python_command
from vdeploy.triton.server.hidden_arguments import HIDDEN_ARGUMENT
from vdeploy.triton.server.reaper import SHARED_MEMORY

__all__ = ["end_group", "is_stale_region", "new_region_prefix", "remove_stale_regions", "spawn"]

KILL_WAIT_SECONDS = 5.0

_serials = itertools.count()


def spawn(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    log: Path,
    region_prefix: str,
    scratch: Path | None = None,
    hidden: Sequence[str] = (),
) -> subprocess.Popen[bytes]:
    """Starts a server under a reaper, in a dedicated process group that does not outlive this process.

    Args:
        command: The program's absolute path and its arguments, whose paths are absolute as well.
        environment: All of its environment variables.
        log: The file for its output, emptied first.
        region_prefix: With what the names of its shared memory regions begin.
        scratch: A folder that goes with the server when this process is killed; else it is the caller's to remove.
        hidden: More arguments, which no other user may see in the list of processes.

    Returns:
        The reaper, leader of the group; it ends when the server does, by the same signal where one ended that.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    secrets = {f"{HIDDEN_ARGUMENT}{index}": argument for index, argument in enumerate(hidden)}
    program = [*command, *secrets]
    with log.open("wb") as output:
        return subprocess.Popen(
            python_command("vdeploy.triton.server.reaper", os.getpid(), region_prefix, scratch or "", *program),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(environment) | secrets,
            cwd="/",  # Triton's Python stubs import from the working directory first
            start_new_session=True,
        )


def end_group(process: subprocess.Popen[bytes], grace_seconds: float) -> None:
    """Ends a process that `spawn` started and everything that it started.

    Args:
        process: The leader of the group; it is asked with SIGTERM first.
        grace_seconds: How long it may take before SIGKILL.
    """
    try:
        if process.poll() is None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(grace_seconds)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        _wait_for_group(process.pid)


def new_region_prefix() -> str:
    """A name for shared memory regions that contains their owner: `vdeploy-<pid>-<pid namespace>-<serial>-`."""
    return f"vdeploy-{os.getpid()}-{_pid_namespace()}-{next(_serials)}-"


def remove_stale_regions() -> None:
    """Removes the regions of processes that are dead."""
    for region in SHARED_MEMORY.glob("vdeploy-*"):
        if is_stale_region(region.name):
            with contextlib.suppress(OSError):
                region.unlink()


def is_stale_region(name: str) -> bool:
    """Whether `new_region_prefix` has named a region for a process that is dead.

    Process ids of another container that shares `/dev/shm` mean nothing here; its regions are left alone.
    """
    owner = re.match(r"vdeploy-(\d+)-(\d+)-", name)
    return bool(owner and int(owner[2]) == _pid_namespace() and not Path(f"/proc/{owner[1]}").exists())


def _pid_namespace() -> int:
    return Path("/proc/self/ns/pid").stat().st_ino


def _wait_for_group(group: int) -> None:
    """Waits until the kernel has ended all of a killed group; an unreaped zombie must not hold us for ever."""
    deadline = time.monotonic() + KILL_WAIT_SECONDS
    with contextlib.suppress(ProcessLookupError):
        while time.monotonic() < deadline:
            os.killpg(group, 0)
            time.sleep(0.02)
