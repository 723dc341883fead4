"""Addresses and ports to listen on."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import random
import socket
from collections.abc import Mapping

from vdeploy.core.errors import ServerError

__all__ = ["check_ports", "free_ports", "grpc_address", "http_address", "local_address", "resolve_host"]

_CANDIDATES = range(20_000, 32_768)
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  compared with, not bound to


def resolve_host(host: str) -> str:
    """The numeric address of a host name, IPv4 where it has both; a numeric address as it is, without brackets.

    Triton takes names for numbers, and binds to 255.255.255.255.

    Raises:
        ServerError: The name has no address.
    """
    bare = host.strip("[]")
    with contextlib.suppress(ValueError):
        return str(ipaddress.ip_address(bare))
    try:
        found = socket.getaddrinfo(bare, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ServerError(
            f"--host {host!r} has no address ({error})", "give an address of this machine, such as 127.0.0.1"
        ) from error
    return str(min(found, key=lambda entry: entry[0] != socket.AF_INET)[4][0])


def grpc_address(host: str) -> str:
    """A numeric address as Triton's `--grpc-address` takes it."""
    return f"[{host}]" if ":" in host else host


def http_address(host: str) -> str:
    """A numeric address as Triton's `--http-address` and `--metrics-address` take it."""
    return f"ipv6:{host}" if ":" in host else host


def local_address(host: str) -> str:
    """Where this machine reaches a server that listens on a numeric address."""
    return _WILDCARDS.get(host, host)


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
            if error.errno == errno.EADDRNOTAVAIL:
                raise ServerError(
                    f"{host} is no address of this machine", "choose another with --host, such as 127.0.0.1"
                ) from error
            raise ServerError(
                f"port {port} of {host} cannot be taken for {name} ({error.strerror or error})",
                f"stop what listens there, or choose another with --{name}-port",
            ) from error


def free_ports(count: int) -> list[int]:
    """Different ports of 127.0.0.1 that nothing listens on; another process may take one before it is used.

    They lie below those that Linux gives to outgoing connections, any of which could be gone by then. They are drawn
    by the system's generator: two processes that seeded `random` alike, as Keras does, would draw the same ones.

    Raises:
        ServerError: There are not that many.
    """
    found: list[int] = []
    for port in random.SystemRandom().sample(_CANDIDATES, len(_CANDIDATES)):
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
