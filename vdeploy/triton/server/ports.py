"""Where a server could listen."""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Mapping

from vdeploy.core.errors import ServerError

__all__ = ["check_ports", "free_ports"]

_CANDIDATES = range(20_000, 32_768)


def check_ports(host: str, ports: Mapping[str, int]) -> None:
    """Takes each port for a moment.

    Args:
        host: Address to listen on.
        ports: By what they are for, as in `--NAME-port`; 0 is none.

    Raises:
        ServerError: One cannot be taken.
    """
    for name, port in ports.items():
        if not port:
            continue
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((host, port))
        except OSError as error:
            raise ServerError(
                f"port {port} of {host} cannot be taken for {name} ({error.strerror or error})",
                f"stop what listens there, or choose another with --{name}-port",
            ) from error


def free_ports(count: int) -> list[int]:
    """Different ports of 127.0.0.1 that nothing listens on; another process may take one before it is used.

    They lie below those that Linux gives to outgoing connections, any of which could be gone by then.

    Raises:
        ServerError: There are not that many.
    """
    found: list[int] = []
    for port in random.sample(_CANDIDATES, len(_CANDIDATES)):
        if len(found) == count:
            break
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            found.append(port)
    if len(found) < count:
        raise ServerError(
            f"127.0.0.1 has no {count} free ports from {_CANDIDATES[0]} to {_CANDIDATES[-1]}", "stop what listens there"
        )
    return found
