"""The users whose processes listen on a TCP port of this machine."""

from __future__ import annotations

import contextlib
import ipaddress
from pathlib import Path

__all__ = ["is_loopback", "listener_owners"]

_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_LISTEN = "0A"
_ADDRESS, _STATE, _USER = 1, 3, 7
"""Columns of these tables."""


def is_loopback(host: str) -> bool:
    """Whether a host, as in `HOST:PORT`, is this machine by its loopback interface."""
    bare = host.strip("[]")
    if bare == "localhost":
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(bare).is_loopback
    return False


def listener_owners(port: int) -> set[int]:
    """User ids of the processes that listen on a port, whatever the address; empty where none does."""
    owners = set()
    for table in _TABLES:
        with contextlib.suppress(OSError):
            for line in table.read_text(encoding="ascii").splitlines()[1:]:
                columns = line.split()
                if columns[_STATE] == _LISTEN and int(columns[_ADDRESS].rpartition(":")[2], 16) == port:
                    owners.add(int(columns[_USER]))
    return owners
