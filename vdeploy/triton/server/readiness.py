"""Wait until a server that has been started answers as it should."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Collection

from vdeploy.triton.server.exits import ended, late
from vdeploy.triton.server.health import Health
from vdeploy.triton.server.launch import Launch
from vdeploy.triton.server.ports import grpc_address, local_address
from vdeploy.triton.server.version_checks import check_answers

__all__ = ["wait_until_ready"]

_POLL_SECONDS = 0.05


def wait_until_ready(launch: Launch, health: Health, timeout_seconds: float) -> None:
    """Wait until a server listens, answers inferences, and answers its golden clips rightly.

    Args:
        launch: The server, which has been started.
        health: Has its models answer.
        timeout_seconds: How long it may take; the answers have a second each at least.

    Raises:
        ServerError: The server has ended, fails, or is late.
    """
    process, deadline = launch.running(), time.monotonic() + timeout_seconds
    host, ports = local_address(launch.host), [port for port in launch.ports.values() if port]
    while not _listens(host, ports):
        if process.poll() is not None:
            raise ended(process, launch.log_file)
        if time.monotonic() > deadline:
            raise late(timeout_seconds, launch.log_file)
        time.sleep(_POLL_SECONDS)
    try:
        health.check_ensemble(max(1.0, deadline - time.monotonic()))
    except TimeoutError as error:
        raise late(timeout_seconds, launch.log_file) from error
    url = f"{grpc_address(host)}:{launch.ports['grpc']}"
    check_answers(launch.repository, url, max(1.0, deadline - time.monotonic()))


def _listens(host: str, ports: Collection[int]) -> bool:
    with contextlib.suppress(OSError):
        for port in ports:
            socket.create_connection((host, port), timeout=1).close()
        return True
    return False
