"""gRPC connections to Triton that reconnect quickly and use no proxy on loopback."""

from __future__ import annotations

from typing import TYPE_CHECKING

import tritonclient.grpc as triton

from vdeploy.triton.client.listeners import is_loopback

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Connection", "connect"]

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
