"""Becomes a server that dies with the process that started it, however that one ends.

    python launcher.py PARENT_PID PROGRAM [ARGUMENT ...]

It runs as a program of its own, because code between fork and exec is not safe in a process with threads.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

__all__ = ["main"]

PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Asks the kernel for SIGKILL at the parent's end, and becomes the program.

    Args:
        arguments: The parent's process id, the program, and its arguments.
    """
    parent, *command = arguments
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):
        sys.exit("the process that asked for the server is gone")
    try:
        os.execv(command[0], command)  # noqa: S606  the point of this program
    except OSError as error:
        sys.exit(f"error: {command[0]} cannot be run: {error.strerror}")


if __name__ == "__main__":
    main(sys.argv[1:])
