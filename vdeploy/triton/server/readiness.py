"""Wait until a server that has been started listens on its ports."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Collection
from pathlib import Path

from vdeploy.triton.server.exits import ended, late

__all__ = ["wait_until_it_listens"]

_POLL_SECONDS = 0.05


def wait_until_it_listens(
    process: subprocess.Popen[bytes], host: str, ports: Collection[int], timeout_seconds: float, log_file: Path
) -> float:
    """Wait for all ports of a server.

    Args:
        process: The server.
        host: Address that reaches it.
        ports: The ports; gRPC's is the first of them to answer.
        timeout_seconds: How long it may take.
        log_file: Its output, quoted in errors.

    Returns:
        Seconds of the time allowed that are left, at least 1.

    Raises:
        ServerError: The server has ended, or is late.
    """
    deadline = time.monotonic() + timeout_seconds
    while not _listens(host, ports):
        if process.poll() is not None:
            raise ended(process, log_file)
        if time.monotonic() > deadline:
            raise late(timeout_seconds, log_file)
        time.sleep(_POLL_SECONDS)
    return max(1.0, deadline - time.monotonic())


def _listens(host: str, ports: Collection[int]) -> bool:
    with contextlib.suppress(OSError):
        for port in ports:
            socket.create_connection((host, port), timeout=1).close()
        return True
    return False
