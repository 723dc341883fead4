"""Run the application in uvicorn: TLS, JSON logs, and a shutdown that finishes requests in progress."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import socket
import sys
import types
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn

from vdeploy.core.errors import GatewayError
from vdeploy.gateway.app import create_app
from vdeploy.gateway.connection import BoundedConnection
from vdeploy.gateway.logs import log_config, log_event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vdeploy.gateway.service import Service

__all__ = ["Address", "GatewayServer"]

_UNREAD_MS = 30_000
"""The kernel closes the connection of a client that takes nothing for so long."""


@dataclasses.dataclass(frozen=True)
class Address:
    """Address of the gateway.

    Attributes:
        host: Address or name to listen on.
        port: Port to listen on; 0 takes a free one.
        tls_cert: Certificate chain, PEM; ``None`` serves plain HTTP.
        tls_key: Its private key, PEM.
        names: Names under which it may be reached, also behind a proxy; with API keys and no names, under any.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    tls_cert: Path | None = None
    tls_key: Path | None = None
    names: tuple[str, ...] = ()


class GatewayServer(uvicorn.Server):
    """Serves a gateway until SIGTERM, SIGINT or SIGHUP; then requests in progress are finished, and new ones refused.

    Args:
        service: The parts of the gateway.
        address: Where to listen.
        on_ready: Called with the URL once requests are accepted.

    Raises:
        GatewayError: The certificate or the key cannot be used.
    """

    def __init__(self, service: Service, address: Address, on_ready: Callable[[str], None]) -> None:
        log_config()
        config = uvicorn.Config(
            create_app(
                service,
                address.names,
                listens_on=address.host,
                any_host=service.access.asks_for_keys and not address.names,
            ),
            http=BoundedConnection,
            ws="none",
            host=address.host,
            port=address.port,
            ssl_certfile=address.tls_cert,
            ssl_keyfile=address.tls_key,
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=15,
            timeout_graceful_shutdown=round(service.limits.drain_s),
        )
        try:
            config.load()
        except (OSError, ValueError) as error:
            raise GatewayError(
                f"the certificate {address.tls_cert} with the key {address.tls_key} cannot be used ({error})",
                "give PEM files that belong together",
            ) from error
        super().__init__(config)
        self._service = service
        self._address = address
        self._on_ready = on_ready

    def serve_until_stopped(self) -> None:
        """Serve until a signal ends the process.

        Raises:
            GatewayError: The port cannot be taken.
        """
        try:
            listening = socket.create_server(
                (self._address.host, self._address.port),
                family=socket.AF_INET6 if ":" in self._address.host else socket.AF_INET,
                backlog=2048,
            )
        except OSError as error:
            raise GatewayError(
                f"port {self._address.port} of {self._address.host} cannot be taken ({error.strerror or error})",
                "stop what listens there, or choose another with --port",
            ) from error
        with listening:
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accepted connections inherit it
            if hasattr(socket, "TCP_USER_TIMEOUT"):
                listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNREAD_MS)
            scheme = "https" if self._address.tls_cert else "http"
            host = f"[{self._address.host}]" if ":" in self._address.host else self._address.host
            self._on_ready(f"{scheme}://{host}:{listening.getsockname()[1]}")
            with (
                contextlib.suppress(KeyboardInterrupt, SystemExit),
                _on_signal(signal.SIGTERM, lambda *_: sys.exit()),
                self._draining_on_hangup(),
            ):
                self.run(sockets=[listening])  # raises the signal again when it has shut down

    @contextlib.contextmanager
    def _draining_on_hangup(self) -> Iterator[None]:
        """Treat SIGHUP as SIGTERM, unless it is ignored, as under ``nohup``."""
        if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
            yield
            return
        with _on_signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM)):
            yield

    def handle_exit(self, sig: int, frame: types.FrameType | None) -> None:
        """Begin to drain; see `uvicorn.Server.handle_exit`."""
        self._service.drain()
        log_event("draining", signal=sig, requests_in_work=self._service.access.inside)
        super().handle_exit(sig, frame)


@contextlib.contextmanager
def _on_signal(number: signal.Signals, handler: Callable[[int, types.FrameType | None], object]) -> Iterator[None]:
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)
