"""Whether a server could listen where it is to."""

from __future__ import annotations

import socket
from collections.abc import Mapping

from vdeploy.errors import ServerError

__all__ = ["check_ports"]


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
