"""gRPC connections to Triton that reconnect quickly and use no proxy on loopback."""

from __future__ import annotations

import contextlib
import http.client
import re
from typing import TYPE_CHECKING

import tritonclient.grpc as triton

from vdeploy.triton.client.listeners import is_loopback
from vdeploy.triton.names import DEFAULT_GRPC_PORT

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Connection", "connect", "host_and_port", "speaks_http"]

_CHANNEL = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2000),
]
"""As tritonclient sets it, but for the last two: gRPC itself waits up to two minutes before it tries again."""


class Connection:
    """A gRPC connection to one server; the context manager closes it.

    Args:
        address: `HOST:PORT`.
    """

    def __init__(self, address: str) -> None:
        self._client = connect(address)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection."""
        self._client.close()


def connect(url: str) -> triton.InferenceServerClient:
    """A client of the server at `HOST:PORT`, whether or not one is there yet; no proxy leads to this machine itself."""
    own = [("grpc.enable_http_proxy", 0)] if is_loopback(url.rpartition(":")[0]) else []
    return triton.InferenceServerClient(url, channel_args=[*_CHANNEL, *own])


def speaks_http(address: str) -> bool:
    """Whether Triton's HTTP interface, not gRPC, is at `HOST:PORT`."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        connection = http.client.HTTPConnection(address, timeout=2)
        with contextlib.closing(connection):
            connection.request("GET", "/v2/health/live")
            connection.getresponse()
            return True
    return False


def host_and_port(address: str) -> str:
    """`HOST:PORT` of an address that may lack the port, or name a scheme."""
    bare = address.removeprefix("grpc://").removeprefix("http://").rstrip("/")
    if bare.count(":") > 1 and not bare.startswith("["):
        bare = f"[{bare}]"
    return bare if re.search(r"[^:]:\d+$", bare) else f"{bare}:{DEFAULT_GRPC_PORT}"
