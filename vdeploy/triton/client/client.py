"""Score clips on a Triton server; requires only numpy and `tritonclient[grpc]`."""

from __future__ import annotations

import json
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import tritonclient.grpc as triton

from vdeploy.core.errors import ClientError
from vdeploy.core.runtime_messages import without_source
from vdeploy.core.trace_context import TRACEPARENT
from vdeploy.evaluation.drift import ScoreHistogram
from vdeploy.inference.causal import Causal
from vdeploy.inference.scorer import check_features, padded
from vdeploy.triton.client.channel import Connection, host_and_port, speaks_http
from vdeploy.triton.client.retries import Retries
from vdeploy.triton.names import (
    DEFAULT_GRPC_PORT,
    ENSEMBLE_MODEL,
    FEATURES,
    FRAMES,
    PROBABILITIES,
)
from vdeploy.video.clips import ClipSpec

__all__ = ["TritonScorer"]

_TYPES = {"uint8": "UINT8", "float32": "FP32"}
_NOT_SERVED = ("unknown model", "is not ready", "no available versions", "is not found")


class TritonScorer(Connection):
    """A `StagedScorer` over gRPC.

    Everything that a client must know of the model comes from the server: the clips it expects, the classes, the
    threshold and which bundle it serves. Clips go to whatever version serves when they are scored. The two stages are
    called in the versions that served when the scorer was made, as features of one version mean nothing to another;
    once those are gone, a new scorer is due.

    Args:
        address: `HOST:PORT` or `HOST` of Triton's gRPC interface.
        timeout_seconds: How long one request may take, with the retries of it where the server failed for a moment.

    Attributes:
        address: `HOST:PORT`.
        spec: The frames that the server expects.
        classes: Names of the two probabilities, in order.
        threshold: Probability of the second class from which a clip counts as violent.
        temperature: What the classifier's logits were divided by.
        bias: What the violent class's logit was raised by before that.
        granularity: What the extractor looks at as one; see `vdeploy.inference.scorer.StagedScorer`.
        causal: How the features of a stream are computed; see there.
        run: Name of the run that is served.
        score_histogram: Scores of clips that the run did not learn from; `None` where they are not known.
        bundle_digest: SHA-256 of the served bundle's manifest.
        max_batch_size: Clips in one request at most.

    Raises:
        ClientError: Nothing answers there, or it is no server of a vdeploy repository.

    Example:
        >>> with TritonScorer("localhost:8001") as scorer:  # doctest: +SKIP
        ...     probabilities = scorer.score(frames)
    """

    def __init__(self, address: str = f"localhost:{DEFAULT_GRPC_PORT}", *, timeout_seconds: float = 60.0) -> None:
        self.address = host_and_port(address)
        self._timeout = timeout_seconds
        self._retries = Retries()
        self._versions: dict[str, str] = {}
        self._extractor_frames: int | None = None
        super().__init__(self.address)
        try:
            self._read_config()
        except BaseException:
            self.close()
            raise

    def score(self, frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Scores clips, in as many requests as the server's batch size asks for.

        Args:
            frames: RGB, `uint8[B, T, S, S, 3]` with T and S of `spec`.

        Returns:
            `float32[B, 2]`; a row sums to 1.

        Raises:
            ClientError: The frames have another shape or type, or the server does not answer as it should.
        """
        wanted = (self.spec.frames, self.spec.size, self.spec.size, 3)
        if frames.dtype != np.uint8 or frames.ndim != 5 or frames.shape[1:] != wanted:
            shape = ", ".join(str(size) for size in ("B", *wanted))
            raise ClientError(
                f"frames are {frames.dtype}{list(frames.shape)}, {self.address} takes uint8[{shape}]",
                "decode the video with the server's ClipSpec",
            )
        return self._in_batches(ENSEMBLE_MODEL, FRAMES, frames, PROBABILITIES, (len(self.classes),))

    def extract(self, frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Features of frames; see `vdeploy.inference.scorer.StagedScorer`.

        Raises:
            ClientError: The server does not answer as it should, or has replaced the version.
        """
        count = frames.shape[1]
        if self.granularity == "clip":
            steps = int(self._config_of(self._stages[0]).output[0].dims[0])
            return self._in_batches(self._stages[0], FRAMES, frames, FEATURES, (steps, self._dim))
        whole = padded(frames, self._frames_of_extractor())
        shape = (whole.shape[1], self._dim)
        return self._in_batches(self._stages[0], FRAMES, whole, FEATURES, shape)[:, :count]

    def classify(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Probabilities from features; see `vdeploy.inference.scorer.StagedScorer`.

        Raises:
            ClientError: The server does not answer as it should, or has replaced the version.
            DeployError: Some features are NaN or infinite.
        """
        check_features(features)
        return self._in_batches(self._stages[-1], FEATURES, features, PROBABILITIES, (len(self.classes),))

    def _in_batches(
        self, model: str, name: str, values: npt.NDArray[Any], wanted: str, shape: tuple[int, ...]
    ) -> npt.NDArray[np.float32]:
        parts = [
            self._infer(model, name, values[start : start + self.max_batch_size], wanted, shape)
            for start in range(0, len(values), self.max_batch_size)
        ]
        return np.concatenate(parts) if parts else np.zeros((0, *shape), np.float32)

    def _infer(
        self, model: str, name: str, batch: npt.NDArray[Any], wanted: str, shape: tuple[int, ...]
    ) -> npt.NDArray[np.float32]:
        tensor = triton.InferInput(name, batch.shape, _TYPES[batch.dtype.name])
        tensor.set_data_from_numpy(np.ascontiguousarray(batch))
        output = triton.InferRequestedOutput(wanted)
        version = self._versions.get(model, "")
        try:
            result = self._retries.send(
                lambda seconds: self._client.infer(
                    model,
                    [tensor],
                    model_version=version,
                    outputs=[output],
                    client_timeout=seconds,
                    timeout=round(seconds * 1e6),
                    headers={"traceparent": traceparent} if (traceparent := TRACEPARENT.get()) else None,
                ),
                self._timeout,
            )
        except triton.InferenceServerException as error:
            raise self._explain(error, model) from error
        answer = result.as_numpy(wanted)
        expected = (len(batch), *shape)
        if answer is None or answer.shape != expected:
            found = "nothing" if answer is None else f"shape {list(answer.shape)}"
            raise ClientError(
                f"{self.address} answered {found} instead of shape {list(expected)}", "look at the server's log"
            )
        return np.asarray(answer, np.float32)

    def serves(self, model: str) -> bool:
        """Whether the server has a model ready.

        Raises:
            ClientError: It does not answer.
        """
        try:
            return bool(self._client.is_model_ready(model, client_timeout=self._timeout))
        except triton.InferenceServerException as error:
            raise self._explain(error, model) from error

    def _frames_of_extractor(self) -> int:
        """Frames of a clip that the extractor insists on, 1 where it takes any number."""
        if self._extractor_frames is None:
            config = self._config_of(self._stages[0])
            self._extractor_frames = max(int(config.input[0].dims[0]), 1)
        return self._extractor_frames

    def _config_of(self, model: str) -> Any:
        try:
            return self._client.get_model_config(
                model, model_version=self._versions.get(model, ""), client_timeout=self._timeout
            ).config
        except triton.InferenceServerException as error:
            raise self._explain(error, model) from error

    def _read_config(self) -> None:
        config = self._config_of(ENSEMBLE_MODEL)
        try:
            values: dict[str, Any] = {name: json.loads(entry.string_value) for name, entry in config.parameters.items()}
            self.spec = ClipSpec.from_dict(values["clip"])
            self.clip_seconds = float(values["clip_seconds"]) if "clip_seconds" in values else None
            self.classes: tuple[str, str] = (str(values["classes"][0]), str(values["classes"][1]))
            self.threshold = float(values["threshold"])
            self.temperature = float(values["temperature"])
            self.bias = float(values.get("bias", 0.0))
            self.run = str(values["run"])
            scores = values.get("score_histogram")
            self.score_histogram = None if scores is None else ScoreHistogram.from_dict(scores)
            self.bundle_digest = str(values["bundle_sha256"])
            self._dim = int(values["extractor_dim"])
            self.granularity: Literal["frame", "clip"] = "clip" if values.get("granularity") == "clip" else "frame"
            self.causal = Causal(int(values["past_frames"])) if "past_frames" in values else None
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise ClientError(
                f"{self.address} serves a {ENSEMBLE_MODEL} that vdeploy did not write ({error!r})",
                "serve a bundle with this version of vdeploy",
            ) from error
        self.max_batch_size = int(config.max_batch_size)
        self._stages = tuple(step.model_name for step in config.ensemble_scheduling.step)
        self._versions = {
            step.model_name: str(step.model_version)
            for step in config.ensemble_scheduling.step
            if step.model_version > 0
        }

    def _explain(self, error: Any, model: str) -> ClientError:
        status, message = error.status() or "", error.message() or str(error)
        if any(sign in message for sign in _NOT_SERVED):
            return ClientError(
                f"{self.address} does not serve the model {model} ({message})",
                "serve a bundle there: vdeploy serve BUNDLE",
            )
        if "maximum queue size" in message:
            return ClientError(f"{self.address} is overloaded, its queue is full", "send less at a time, or try later")
        if status == "StatusCode.DEADLINE_EXCEEDED" or "Request timeout expired" in message:
            return ClientError(
                f"{self.address} did not answer within {self._timeout:g} s",
                "allow more time, or see whether the server is overloaded",
            )
        if status in {"StatusCode.UNAVAILABLE", "StatusCode.UNIMPLEMENTED"}:
            if speaks_http(self.address):
                return ClientError(
                    f"{self.address} speaks HTTP, not gRPC",
                    f"give Triton's gRPC port, {DEFAULT_GRPC_PORT} unless it was changed",
                )
            return ClientError(
                f"no Triton answers at {self.address}", "start a server there, or give another HOST:PORT"
            )
        return ClientError(f"{self.address} could not answer: {without_source(message)}", "look at the server's log")
