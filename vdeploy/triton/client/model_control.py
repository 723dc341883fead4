"""Load, unload and call models of a Triton server, with time limits and readable errors."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import tritonclient.grpc as triton
from tritonclient.utils import np_to_triton_dtype

from vdeploy.core.errors import AccessError, ClientError, RolloutError
from vdeploy.core.runtime_messages import without_source
from vdeploy.triton.client.channel import Connection
from vdeploy.triton.client.control_routes import CONTROL_KEY_VARIABLE, ControlRoute, open_route
from vdeploy.triton.client.server_log import log_size, reason_in
from vdeploy.triton.client.stream import new_stream_id
from vdeploy.triton.names import ENSEMBLE_MODEL, MISSING

__all__ = ["Answer", "ModelControl"]

CALL_TIMEOUT_SECONDS = 10.0
POLL_SECONDS = 0.2

_REASON = re.compile(r"version \d+ is at \w+ state: (?:\w+: )?(?P<why>.+)")
_RESTRICTED = "protocol is restricted"
_LITTLE_SAID = "failed to poll"


class Answer(NamedTuple):
    """What a model has answered.

    Attributes:
        output: Its output.
        version: The version that has answered.
    """

    output: npt.NDArray[np.float32]
    version: int


class ModelControl(Connection):
    """One server, over gRPC.

    Args:
        url: `HOST:PORT`.
        timeout_seconds: How long a load may take.
        log_file: The server's log, where it can be read; it has reasons that Triton's answers lack.
        before_load: Is called before Triton is asked to read a model's folder, to have it see what is there.

    Raises:
        ClientError: No Triton answers there.
        AccessError: The environment holds a key, and the server has not proven that it may have it.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_seconds: float = 120.0,
        log_file: Path | None = None,
        before_load: Callable[[], None] = lambda: None,
    ) -> None:
        self.url = url
        self.timeout_seconds = timeout_seconds
        self._log_file = log_file
        self._before_load = before_load
        super().__init__(url)
        try:
            self._route: ControlRoute = open_route(self._client, url, CALL_TIMEOUT_SECONDS)
        except AccessError:
            self.close()
            raise
        except triton.InferenceServerException as error:
            self.close()
            raise ClientError(
                f"no Triton answers at {url} ({error.message()})", "start a server there, or give its gRPC port"
            ) from error

    def is_ready(self) -> bool:
        """Whether Triton calls itself ready: no version is being loaded or dropped, and no latest load has failed.

        Raises:
            ClientError: The server does not answer.
        """
        try:
            return bool(self._client.is_server_ready(client_timeout=CALL_TIMEOUT_SECONDS))
        except triton.InferenceServerException as error:
            raise self._silence(error) from error

    def server_version(self) -> str:
        """The server's version, such as `2.51.0`.

        Raises:
            ClientError: The server does not answer.
        """
        try:
            return str(self._client.get_server_metadata(client_timeout=CALL_TIMEOUT_SECONDS).version)
        except triton.InferenceServerException as error:
            raise self._silence(error) from error

    def wait_until_live(self, seconds: float) -> None:
        """Waits for a server that may be on its way back.

        Raises:
            ClientError: It is not there after so many seconds.
        """
        deadline = time.monotonic() + seconds
        while True:
            try:
                self._client.is_server_live(client_timeout=CALL_TIMEOUT_SECONDS)
            except triton.InferenceServerException as error:
                if time.monotonic() > deadline:
                    raise self._silence(error) from error
                time.sleep(POLL_SECONDS)
            else:
                return

    def check_access(self) -> None:
        """Finds out whether models may be loaded, before anything is changed.

        Raises:
            AccessError: The server keeps that to those who know its key.
            ClientError: The server does not answer.
        """
        self.states(ENSEMBLE_MODEL)

    def load(self, model: str) -> None:
        """Has Triton read a model's folder again; the versions that serve go on until the new ones are there.

        Raises:
            RolloutError: It fails, or takes too long; what served before still serves.
        """
        self._before_load()
        logged = log_size(self._log_file) if self._log_file else 0
        try:
            self._route.load(model, self.timeout_seconds)
        except triton.InferenceServerException as error:
            raise RolloutError(f"{model} cannot be loaded: {self._reason(error, logged)}") from error

    def unload(self, model: str) -> None:
        """Has Triton drop all versions of a model.

        Raises:
            RolloutError: It fails, or takes too long.
        """
        try:
            self._route.unload(model, CALL_TIMEOUT_SECONDS)
        except triton.InferenceServerException as error:
            raise RolloutError(f"{model} cannot be unloaded: {self._reason(error)}") from error

    def states(self, model: str) -> dict[int, str]:
        """Triton's state of each version that it has ever seen: `READY`, `UNLOADING`, ...

        A version that was dropped on purpose is `UNLOADED`, which Triton calls unavailable, as one that has failed.

        Raises:
            AccessError: The server keeps that to those who know its key.
            ClientError: The server does not answer.
        """
        try:
            index = self._route.index(CALL_TIMEOUT_SECONDS)
        except triton.InferenceServerException as error:
            raise self._silence(error) from error
        return {
            int(entry.version): "UNLOADED" if entry.reason == "unloaded" else entry.state
            for entry in index
            if entry.name == model and entry.version
        }

    def infer(self, model: str, inputs: tuple[str, npt.NDArray[Any]], output: str, version: int | None) -> Answer:
        """Runs one request.

        Args:
            model: The model.
            inputs: Name and content of its input.
            output: Name of its output.
            version: Which version is to answer; `None` for whichever everybody gets.

        Raises:
            tritonclient.utils.InferenceServerException: It fails.
        """
        return self._infer(model, [inputs], output, version)

    def infer_stream(
        self, model: str, inputs: tuple[str, npt.NDArray[Any]], output: str, version: int | None
    ) -> Answer:
        """Runs one request as a whole stream, of which nothing is kept; else as `infer`.

        Args:
            model: A model of `vdeploy.triton.names.STREAM_MODELS`.
            inputs: Name and content of its input along time, `[1, t, ...]`, no frame of which is missing.
            output: Name of its output.
            version: Which version is to answer; `None` for whichever everybody gets.
        """
        none_missing = (MISSING, np.zeros(inputs[1].shape[:2], np.int32))
        stream = {"sequence_id": new_stream_id(), "sequence_start": True, "sequence_end": True}
        return self._infer(model, [inputs, none_missing], output, version, **stream)

    def _infer(
        self, model: str, inputs: list[tuple[str, npt.NDArray[Any]]], output: str, version: int | None, **stream: Any
    ) -> Answer:
        tensors = []
        for name, array in inputs:
            tensors.append(triton.InferInput(name, array.shape, np_to_triton_dtype(array.dtype)))
            tensors[-1].set_data_from_numpy(np.ascontiguousarray(array))
        result = self._client.infer(
            model,
            tensors,
            model_version="" if version is None else str(version),
            outputs=[triton.InferRequestedOutput(output)],
            client_timeout=self.timeout_seconds,
            **stream,
        )
        return Answer(np.asarray(result.as_numpy(output), np.float32), int(result.get_response().model_version))

    def _silence(self, error: Any) -> ClientError:
        if _RESTRICTED in str(error.message()):
            return AccessError(
                f"{self.url} lets only the user who runs it control its models, and only on its own machine",
                f"run the command there as that user, or set {CONTROL_KEY_VARIABLE} where the server has a key",
            )
        return ClientError(f"{self.url} does not answer ({error.message()})", "look at the server's log")

    def _reason(self, error: Any, logged: int = 0) -> str:
        if error.status() == "StatusCode.DEADLINE_EXCEEDED":
            return f"Triton was not done after {self.timeout_seconds:g} s"
        message = str(error.message() or error)
        if _LITTLE_SAID in message and self._log_file is not None and (reason := reason_in(self._log_file, logged)):
            return reason
        found = _REASON.search(message)
        return without_source(found["why"] if found else message).splitlines()[0].strip().rstrip(";. ")
