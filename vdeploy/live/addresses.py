"""Addresses of streams and web servers: taken apart without surprises, and shown without their secrets."""

from __future__ import annotations

import re
import urllib.parse

from vdeploy.core.errors import SourceError

__all__ = ["shown_address", "split_address"]

_AUTHORITY = re.compile(r"[^/?#]*")
_HOST_AND_PORT = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^:@\[\]]+)?(:\d+)?")
_HINT = "write it as SCHEME://USER:PASSWORD@HOST:PORT/PATH, with % and two digits for / ? # @ in USER and PASSWORD"


def split_address(address: str) -> urllib.parse.SplitResult:
    """Takes an address apart.

    Args:
        address: Such as ``rtsp://user:password@host:554/path``.

    Returns:
        Its parts; ``hostname`` and ``port`` can be read, and are ``None`` where it has none.

    Raises:
        SourceError: Its host or port is none, or its user or password holds characters that end them.
    """
    rest = address.partition("://")[2]
    host = _authority(rest).rpartition("@")[2]
    shown = shown_address(address)
    if not _HOST_AND_PORT.fullmatch(host) or not address.isprintable() or " " in address:
        raise SourceError(f"{shown} is no valid address", _HINT)
    try:
        parts = urllib.parse.urlsplit(address)
        port = parts.port
    except ValueError:
        raise SourceError(f"{shown} has no valid host and port", _HINT) from None
    if port == 0:
        raise SourceError(f"{shown} has no valid host and port", _HINT)
    return parts


def shown_address(address: str) -> str:
    """An address as it may be shown: without user, password, query and fragment, even where it is malformed."""
    scheme, separator, rest = address.partition("://")
    if not separator:
        scheme, rest = "", address
    authority = _authority(rest)
    host = authority.rpartition("@")[2]
    path = rest[len(authority) :]
    if not _HOST_AND_PORT.fullmatch(host) or ("@" in path and "@" not in authority):
        _, _, tail = rest.rpartition("@")
        host = _authority(tail)
        path = tail[len(host) :]
    path = re.split(r"[?#]", path, maxsplit=1)[0]
    return f"{scheme}{separator}{host}{path}"


def _authority(rest: str) -> str:
    found = _AUTHORITY.match(rest)
    return found.group() if found else ""
