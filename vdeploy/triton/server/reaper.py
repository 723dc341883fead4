"""Run a server for its supervisor, and end it when the supervisor dies.

    python -m vdeploy.triton.server.reaper SUPERVISOR_PID REGION_PREFIX SCRATCH PROGRAM [ARGUMENT ...]

A killed supervisor cannot clean up, and a Triton stub may outlive a killed Triton. So this small program, the leader of
the server's process group, waits for either end: it ends as the server ended, or it removes the server's shared memory
and temporary files and kills the whole group. It imports the standard library and the two modules beside it alone.

Triton prints its stack when it crashes, and then ends. Where another of its threads holds a lock that the printing
needs, it continues instead, with one thread less and without reacting to SIGTERM; then the reaper ends it.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

from vdeploy.triton.server.hidden_arguments import start

__all__ = ["main", "remove_regions"]

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  where the kernel keeps POSIX shared memory
POLL_SECONDS = 0.2
CRASH_SECONDS = 2.0
"""How long a server may take to end once it has printed that it crashes."""

_CRASH = re.compile(rb"^Signal \((6|11)\) received", re.MULTILINE)


def main(arguments: list[str]) -> None:
    """Runs the server to its end or to the supervisor's.

    Args:
        arguments: The supervisor's process id, the prefix of the server's shared memory, the folder of its temporary
            files or nothing, the program, its arguments.
    """
    supervisor, prefix, scratch, *command = arguments
    try:
        server = start(command)
    except OSError as error:
        sys.exit(f"error: {command[0]} cannot be run: {error.strerror}")
    signal.signal(signal.SIGTERM, lambda *_: server.terminate())
    log = _Log(1)
    while server.poll() is None:
        if os.getppid() != int(supervisor):
            remove_regions(prefix)
            if scratch:
                shutil.rmtree(scratch, ignore_errors=True)
            os.killpg(0, signal.SIGKILL)
        if crash := log.crash():
            _end_late(server, crash)
        time.sleep(POLL_SECONDS)
    if server.returncode < 0:
        _end_by(-server.returncode)
    sys.exit(server.returncode)


def remove_regions(prefix: str) -> None:
    """Removes the shared memory regions whose names begin with `prefix`."""
    for region in SHARED_MEMORY.glob(f"{prefix}*"):
        with contextlib.suppress(OSError):
            region.unlink()


class _Log:
    """The server's output, read as it grows, if it goes to a file: reading a pipe would consume it."""

    def __init__(self, descriptor: int) -> None:
        self._file = Path(f"/proc/self/fd/{descriptor}")
        self._is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
        self._read = 0

    def crash(self) -> int:
        """Number of the signal that a fault of the server has raised, by its log; 0 for none."""
        if not self._is_file:
            return 0
        with contextlib.suppress(OSError), self._file.open("rb") as file:
            file.seek(self._read)
            text = file.read()
            self._read += text.rfind(b"\n") + 1
            if found := _CRASH.search(text):
                return int(found[1])
        return 0


def _end_late(server: subprocess.Popen[bytes], crash: int) -> None:
    """Ends a server that has crashed but continues, and this process as the crash should have."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        server.wait(CRASH_SECONDS)
        return
    sys.stderr.write("error: Triton had crashed but did not end; it was killed\n")
    server.kill()
    server.wait()
    _end_by(crash)


def _end_by(number: int) -> None:
    """Ends as the server did, so that the supervisor can distinguish a crash from a kill; only it dumps core."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if number != signal.SIGKILL:
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


if __name__ == "__main__":
    main(sys.argv[1:])
