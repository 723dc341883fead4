"""Check that the stages of a running Triton answer, and reload those that do not.

Triton neither restarts the process of a model that has crashed, nor turns unready. Only an inference shows it, and only
unloading and loading the model helps.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any, NamedTuple

import tritonclient.grpc as triton
from tritonclient.utils import np_to_triton_dtype

from vdeploy.core.errors import ServerError
from vdeploy.core.runtime_messages import without_source
from vdeploy.triton.client.channel import connect
from vdeploy.triton.client.control_routes import ControlRoute
from vdeploy.triton.client.server_log import log_size, reason_in
from vdeploy.triton.client.stream import new_stream_id
from vdeploy.triton.deployment.journal import Journal
from vdeploy.triton.names import ENSEMBLE_MODEL, STREAM_MODEL, STREAM_MODELS
from vdeploy.triton.repository.repository import Repository

__all__ = ["Health", "UnresponsiveError"]

_ENSEMBLES = (ENSEMBLE_MODEL, STREAM_MODEL)

CALL_TIMEOUT_SECONDS = 10.0
POLL_SECONDS = 0.05
SECOND_LOOK_SECONDS = 0.5

DEADLINE = "StatusCode.DEADLINE_EXCEEDED"

FULL_BATCHES = 4
"""How many full batches may be in front of an inference before a stage without answers counts as dead."""


class UnresponsiveError(ServerError):
    """A server that runs does not answer in time."""


class _Counts(NamedTuple):
    successes: int
    failures: int


class Health:
    """Examines and heals the models of one server.

    Args:
        repository: What it serves.
        url: Its gRPC address.
        log_file: Its output, quoted in errors.
        timeout_seconds: How long an inference or a load may take; longer where the first inference shows that this
            machine is slow.
        control: Loads and unloads its models.
    """

    def __init__(
        self, repository: Repository, url: str, log_file: Path, timeout_seconds: float, control: ControlRoute
    ) -> None:
        self._repository = repository
        self._url = url
        self._log_file = log_file
        self._timeout = timeout_seconds
        self._control = control
        self._counts: dict[str, _Counts] = {}

    def check_ensemble(self, timeout_seconds: float) -> None:
        """Has each ensemble score zeros.

        Raises:
            TimeoutError: It took longer than `timeout_seconds`.
            ServerError: It fails.
        """
        started = time.monotonic()
        with self._client() as client:
            try:
                for model in self._watched_ensembles():
                    self._infer(client, model, timeout_seconds)
                    patience = FULL_BATCHES * self._repository.max_batch_size() * (time.monotonic() - started)
                    self._timeout = max(self._timeout, patience)
            except triton.InferenceServerException as error:
                if error.status() == DEADLINE:
                    raise TimeoutError from error
                raise self._error(f"{model} fails: {without_source(error.message())}") from error

    def heal(self) -> tuple[str, ...]:
        """Reloads dead stages: those that fail an inference and answer no other request meanwhile.

        A stage that has only answered since the last call, and never failed, is not bothered, nor is one that the
        repository no longer has. During a deployment, nothing is: it loads the stages itself, and would
        find its own loads undone.

        Returns:
            The stages that were dead and answer again.

        Raises:
            UnresponsiveError: The server runs, but does not answer in time.
            ServerError: The server does not answer, or a stage stays dead.
        """
        journal = Journal(self._repository.root)
        try:
            return () if journal.goes_on() else self._heal()
        except ServerError:
            if journal.goes_on():  # it has begun meanwhile, and what failed may be its doing
                return ()
            raise

    def is_live(self, timeout_seconds: float) -> bool:
        """Whether the server answers at all."""
        with self._client() as client:
            try:
                return bool(client.is_server_live(client_timeout=timeout_seconds))
            except triton.InferenceServerException:
                return False

    def _heal(self) -> tuple[str, ...]:
        with self._client() as client:
            try:
                client.is_server_live(client_timeout=CALL_TIMEOUT_SECONDS)
                dead = tuple(model for model in self._watched_stages() if not self._is_alive(client, model))
                for model in dead:
                    self._reload(client, model)
                for model in self._watched_ensembles():
                    if not client.is_model_ready(model, client_timeout=CALL_TIMEOUT_SECONDS):
                        self._load(model)
            except triton.InferenceServerException as error:
                message = f"Triton does not answer any more: {error.message()}"
                if error.status() == DEADLINE:
                    raise UnresponsiveError(message, f"its log is {self._log_file}") from error
                raise self._error(message) from error
            return dead

    def _watched_stages(self) -> tuple[str, ...]:
        return tuple(model for model in self._repository.current_models if model not in _ENSEMBLES)

    def _watched_ensembles(self) -> tuple[str, ...]:
        return tuple(model for model in self._repository.current_models if model in _ENSEMBLES)

    @contextlib.contextmanager
    def _client(self) -> Any:
        with contextlib.closing(connect(self._url)) as client:
            yield client

    def _infer(self, client: Any, model: str, timeout_seconds: float) -> None:
        tensors = []
        for name, zeros in self._repository.sample(model).items():
            tensors.append(triton.InferInput(name, zeros.shape, np_to_triton_dtype(zeros.dtype)))
            tensors[-1].set_data_from_numpy(zeros)
        # A stream that is over with its only request, so that none is kept of it.
        whole = {"sequence_id": new_stream_id(), "sequence_start": True, "sequence_end": True}
        client.infer(model, tensors, client_timeout=timeout_seconds, **(whole if model in STREAM_MODELS else {}))

    def _is_alive(self, client: Any, model: str) -> bool:
        before = self._count(client, model)
        seen = self._counts.get(model, before)
        answers_others = before.successes > seen.successes and before.failures == seen.failures
        answers = answers_others or self._answers(client, model)
        self._counts[model] = self._count(client, model)
        return answers or self._counts[model].successes > before.successes

    def _answers(self, client: Any, model: str) -> bool:
        """Whether it answers at once or, where it may just be loading, a moment later."""
        for pause in (SECOND_LOOK_SECONDS, 0.0):
            try:
                self._infer(client, model, self._timeout)
            except triton.InferenceServerException as error:
                if error.status() == DEADLINE:
                    return False
                time.sleep(pause)
            else:
                return True
        return False

    def _count(self, client: Any, model: str) -> _Counts:
        try:
            statistics = client.get_inference_statistics(model, client_timeout=CALL_TIMEOUT_SECONDS).model_stats
        except triton.InferenceServerException:
            return _Counts(0, 0)
        return _Counts(
            successes=sum(entry.inference_stats.success.count for entry in statistics),
            failures=sum(entry.inference_stats.fail.count for entry in statistics),
        )

    def _reload(self, client: Any, model: str) -> None:
        with contextlib.suppress(triton.InferenceServerException):
            self._control.unload(model, CALL_TIMEOUT_SECONDS)
        deadline = time.monotonic() + CALL_TIMEOUT_SECONDS
        while client.is_model_ready(model, client_timeout=CALL_TIMEOUT_SECONDS) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        self._load(model)
        try:
            self._infer(client, model, self._timeout)
        except triton.InferenceServerException as error:
            raise self._error(
                f"{model} has died, and loading it again did not help: {without_source(error.message())}"
            ) from error

    def _load(self, model: str) -> None:
        before = log_size(self._log_file)
        try:
            self._control.load(model, self._timeout)
        except triton.InferenceServerException as error:
            reason = reason_in(self._log_file, before) or without_source(error.message())
            raise self._error(f"{model} has died and cannot be loaded again: {reason}") from error

    def _error(self, message: str) -> ServerError:
        return ServerError(message, f"its log is {self._log_file}")
