"""Routes to the model control of a Triton: its supervisor's socket, or Triton's own gRPC interface.

Triton's model control loads files that its caller sends, and runs them. A Triton of `vdeploy serve --launch` restricts
it to a key that only its supervisor knows and that is drawn for each process. Others ask the supervisor, over a
Unix-domain socket on which the kernel gives each side the user of the other: no secret is sent, and none is stored.
A Triton that was started in another way is asked itself, with the key of `VDEPLOY_TRITON_KEY` if it wants one.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
from typing import Any, NamedTuple, Protocol

import tritonclient.grpc as triton

from vdeploy.core.errors import AccessError
from vdeploy.triton.client.listeners import is_loopback, listener_owners

__all__ = [
    "CONTROL_KEY_VARIABLE",
    "SERVER_ID_PREFIX",
    "ControlRoute",
    "GrpcRoute",
    "ModelState",
    "SocketRoute",
    "control_address",
    "key_headers",
    "open_route",
    "peer_is_trusted",
]

CONTROL_KEY_VARIABLE = "VDEPLOY_TRITON_KEY"
"""Environment variable with the key of a Triton that restricts its model control."""

KEY_NAME = "vdeploy-key"
"""Name of that key, as in `--grpc-restricted-protocol=...:vdeploy-key=...`."""

SERVER_ID_PREFIX = "vdeploy-"
"""With what the server id begins of a Triton whose supervisor listens for control requests."""

SLACK_SECONDS = 5.0
"""How much longer than Triton itself its supervisor may take to answer."""

MAX_MESSAGE_BYTES = 1 << 20

_UNAVAILABLE = "StatusCode.UNAVAILABLE"


class ModelState(NamedTuple):
    """The state of one version of a model, as Triton's repository index has it.

    Attributes:
        name: The model.
        version: The version; empty where Triton knows of none.
        state: `READY`, `UNAVAILABLE`, ...; may be empty.
        reason: Why it is not ready; may be empty.
    """

    name: str
    version: str
    state: str
    reason: str


class ControlRoute(Protocol):
    """Loads and unloads models, and lists them.

    Each method raises `tritonclient.utils.InferenceServerException` where Triton refuses or does not answer.
    """

    def load(self, model: str, timeout_seconds: float) -> None:
        """Loads a model."""

    def unload(self, model: str, timeout_seconds: float) -> None:
        """Unloads a model."""

    def index(self, timeout_seconds: float) -> tuple[ModelState, ...]:
        """Lists the models and their versions."""
        ...


class GrpcRoute:
    """Model control over Triton's own gRPC interface.

    Args:
        client: A client of the server.
        headers: Headers of each request; see `key_headers`.
    """

    def __init__(self, client: Any, headers: dict[str, str]) -> None:
        self._client = client
        self._headers = headers

    def load(self, model: str, timeout_seconds: float) -> None:
        """Loads a model."""
        self._client.load_model(model, headers=self._headers, client_timeout=timeout_seconds)

    def unload(self, model: str, timeout_seconds: float) -> None:
        """Unloads a model."""
        self._client.unload_model(model, headers=self._headers, client_timeout=timeout_seconds)

    def index(self, timeout_seconds: float) -> tuple[ModelState, ...]:
        """Lists the models and their versions."""
        found = self._client.get_model_repository_index(headers=self._headers, client_timeout=timeout_seconds)
        return tuple(ModelState(entry.name, entry.version, entry.state, entry.reason) for entry in found.models)


class SocketRoute:
    """Model control through a server's supervisor.

    Args:
        server_id: The server's id, as its metadata has it.
    """

    def __init__(self, server_id: str) -> None:
        self._server_id = server_id

    def load(self, model: str, timeout_seconds: float) -> None:
        """Loads a model."""
        self._request("load", model, timeout_seconds)

    def unload(self, model: str, timeout_seconds: float) -> None:
        """Unloads a model."""
        self._request("unload", model, timeout_seconds)

    def index(self, timeout_seconds: float) -> tuple[ModelState, ...]:
        """Lists the models and their versions."""
        return tuple(ModelState(*map(str, entry)) for entry in self._request("index", "", timeout_seconds)["models"])

    def is_open(self) -> bool:
        """Whether the supervisor listens, and lets this process control its server."""
        with contextlib.suppress(triton.InferenceServerException):
            self._request("ping", "", SLACK_SECONDS)
            return True
        return False

    def _request(self, call: str, model: str, timeout_seconds: float) -> dict[str, Any]:
        request = {"call": call, "model": model, "timeout_seconds": timeout_seconds}
        try:
            with self._connect(timeout_seconds + SLACK_SECONDS) as connection, connection.makefile("rwb") as stream:
                stream.write(json.dumps(request).encode() + b"\n")
                stream.flush()
                answer: dict[str, Any] = json.loads(stream.readline(MAX_MESSAGE_BYTES))
        except (OSError, ValueError) as error:
            raise triton.InferenceServerException(
                f"the supervisor of the server does not answer ({error})", status=_UNAVAILABLE
            ) from error
        if "error" in answer:
            raise triton.InferenceServerException(str(answer["error"]), status=answer.get("status"))
        return answer

    def _connect(self, timeout_seconds: float) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(timeout_seconds)
            connection.connect(control_address(self._server_id))
            if not peer_is_trusted(connection) and os.geteuid() != 0:
                raise PermissionError("another user listens there")
        except BaseException:
            connection.close()
            raise
        return connection


def open_route(client: Any, url: str, timeout_seconds: float) -> ControlRoute:
    """Finds the route to the model control of a server.

    Args:
        client: A client of the server.
        url: Its `HOST:PORT`.
        timeout_seconds: How long the server may take to say who it is.

    Raises:
        AccessError: The environment holds a key, and the server has not proven that it may have it.
        tritonclient.utils.InferenceServerException: The server does not answer.
    """
    server_id = str(client.get_server_metadata(client_timeout=timeout_seconds).name)
    if server_id.startswith(SERVER_ID_PREFIX) and hasattr(socket, "AF_UNIX"):
        route = SocketRoute(server_id)
        if route.is_open():
            return route
    key = os.environ.get(CONTROL_KEY_VARIABLE)
    if key:
        _refuse_unproven(url)
    return GrpcRoute(client, key_headers(key))


def control_address(server_id: str) -> str:
    """Address of the socket of a server's supervisor: in Linux's abstract namespace, where no file is left behind."""
    return f"\0{server_id}"


def key_headers(key: str | None) -> dict[str, str]:
    """Headers of a gRPC request that carry the key of model control."""
    return {f"triton-grpc-protocol-{KEY_NAME}": key} if key else {}


def peer_is_trusted(connection: socket.socket) -> bool:
    """Whether the process at the other end of a Unix-domain socket runs as this one's user, or as root."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, user, _ = struct.unpack("3i", credentials)
    return user in {0, os.geteuid()}


def _refuse_unproven(url: str) -> None:
    """Looks who listens at an address of this machine; only the same user, or root, gets to see the key."""
    host, _, port = url.rpartition(":")
    if not is_loopback(host):
        raise AccessError(
            f"the key in {CONTROL_KEY_VARIABLE} is not sent to {url}, which cannot prove who it is",
            f"run the command on that machine, or through a tunnel: ssh -L {port}:localhost:{port} HOST",
        )
    owners = listener_owners(int(port))
    if not owners or owners - {0, os.geteuid()}:
        raise AccessError(
            f"the key in {CONTROL_KEY_VARIABLE} is not sent to {url}: another user listens there",
            "check --url, or run the command as the user who runs the server",
        )
