"""The supervisor's side of model control: answers control requests of the same user over a Unix-domain socket."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import tritonclient.grpc as triton

from vdeploy.triton.client.channel import connect
from vdeploy.triton.client.control_routes import (
    MAX_MESSAGE_BYTES,
    SERVER_ID_PREFIX,
    ControlRoute,
    GrpcRoute,
    ModelState,
    control_address,
    key_headers,
    peer_is_trusted,
)

__all__ = ["ControlService", "LocalRoute"]

REQUEST_SECONDS = 5.0
"""How long a client may take to send its request."""

WORKERS = 4


class LocalRoute:
    """Model control of a server that this process has started.

    Args:
        url: Its gRPC address.
        key: Gives the key of its process that runs now.
    """

    def __init__(self, url: str, key: Callable[[], str]) -> None:
        self._url = url
        self._key = key

    def load(self, model: str, timeout_seconds: float) -> None:
        """Loads a model."""
        with self._open() as route:
            route.load(model, timeout_seconds)

    def unload(self, model: str, timeout_seconds: float) -> None:
        """Unloads a model."""
        with self._open() as route:
            route.unload(model, timeout_seconds)

    def index(self, timeout_seconds: float) -> tuple[ModelState, ...]:
        """Lists the models and their versions."""
        with self._open() as route:
            return route.index(timeout_seconds)

    @contextlib.contextmanager
    def _open(self) -> Iterator[GrpcRoute]:
        with contextlib.closing(connect(self._url)) as client:
            yield GrpcRoute(client, key_headers(self._key()))


class ControlService:
    """Forwards control requests to a server while a `with` block lasts.

    Each connection carries one request, a line of JSON: `{"call": "load", "model": NAME, "timeout_seconds": S}`, with
    `load`, `unload`, `index` or `ping` as call. The answer is a line as well: `{}`, `{"models": [...]}` or
    `{"error": MESSAGE, "status": STATUS}`. Connections of other users are closed unread.

    Args:
        route: Does what is asked for.

    Attributes:
        server_id: Id that the server gives in its metadata; clients find the socket by it.
    """

    def __init__(self, route: ControlRoute) -> None:
        self._route = route
        self.server_id = f"{SERVER_ID_PREFIX}{secrets.token_hex(16)}"
        self._listener: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._workers: concurrent.futures.ThreadPoolExecutor | None = None

    def start(self) -> None:
        """Starts to listen; does nothing where it does already."""
        if self._listener is not None:
            return
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(control_address(self.server_id))
        listener.listen()
        self._listener = listener
        self._workers = concurrent.futures.ThreadPoolExecutor(WORKERS, "vdeploy-control")
        self._thread = threading.Thread(target=self._accept, args=(listener, self._workers), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stops to listen; requests that are being answered may end later."""
        listener, self._listener = self._listener, None
        if listener is None:
            return
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        listener.close()
        if self._thread is not None:
            self._thread.join()
        if self._workers is not None:
            self._workers.shutdown(wait=False, cancel_futures=True)

    def _accept(self, listener: socket.socket, workers: concurrent.futures.ThreadPoolExecutor) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            if peer_is_trusted(connection):
                with contextlib.suppress(RuntimeError):  # `stop` was called meanwhile
                    workers.submit(self._serve, connection)
                    continue
            connection.close()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError, ValueError):
            connection.settimeout(REQUEST_SECONDS)
            with connection.makefile("rwb") as stream:
                if request := stream.readline(MAX_MESSAGE_BYTES):
                    stream.write(json.dumps(self._answer(json.loads(request))).encode() + b"\n")

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            call, model, seconds = str(request["call"]), str(request["model"]), float(request["timeout_seconds"])
            if call == "index":
                return {"models": self._route.index(seconds)}
            if call == "load":
                self._route.load(model, seconds)
            elif call == "unload":
                self._route.unload(model, seconds)
            elif call != "ping":
                return {"error": f"there is no call {call!r}", "status": "StatusCode.INVALID_ARGUMENT"}
        except triton.InferenceServerException as error:
            return {"error": str(error.message()), "status": error.status()}
        except (KeyError, TypeError, ValueError) as error:
            return {"error": f"the request cannot be read ({error!r})", "status": "StatusCode.INVALID_ARGUMENT"}
        return {}
