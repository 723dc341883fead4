"""A Triton that loads what the configurations of a repository say, with ONNX Runtime in this process."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from vdeploy.core.errors import RolloutError
from vdeploy.triton.client.model_control import Answer
from vdeploy.triton.names import FEATURES, FRAMES, PROBABILITIES, WINDOW_MODEL
from vdeploy.triton.repository.repository import versions_of


@functools.cache
def _session(file: Path) -> Any:
    return onnxruntime.InferenceSession(file)


class FakeControl:
    """What a deployment calls of `ModelControl`; each `load` reads the `config.pbtxt` of then.

    An ensemble is unloaded as soon as a stage takes smaller batches than it, as Triton does.
    """

    url = "fake:8001"
    timeout_seconds = 5.0

    def __init__(self, root: Path) -> None:
        self.root = root
        self.loaded: dict[str, Any] = {}
        self._versions: dict[str, list[int]] = {}

    def check_access(self) -> None: ...

    def wait_until_live(self, seconds: float) -> None: ...

    def load(self, model: str) -> None:
        file = self.root / model / "config.pbtxt"
        config = text_format.Parse(file.read_text(), model_config_pb2.ModelConfig())
        for step in config.ensemble_scheduling.step:
            if self.loaded[step.model_name].max_batch_size < config.max_batch_size:
                raise RolloutError(f"{model} takes larger batches than {step.model_name}")
        policy, held = config.version_policy, versions_of(self.root / model)
        wanted = list(policy.specific.versions) or held[-(policy.latest.num_versions or 1) :]
        self.loaded[model], self._versions[model] = config, [version for version in wanted if version in held]
        for ensemble in [name for name, other in self.loaded.items() if other.ensemble_scheduling.step]:
            steps = {step.model_name for step in self.loaded[ensemble].ensemble_scheduling.step}
            if model in steps and config.max_batch_size < self.loaded[ensemble].max_batch_size:
                del self.loaded[ensemble]

    def unload(self, model: str) -> None:
        self.loaded.pop(model, None)

    def states(self, model: str) -> dict[int, str]:
        return dict.fromkeys(self.versions(model), "READY")

    def versions(self, model: str) -> list[int]:
        """The versions that are loaded."""
        return self._versions[model] if model in self.loaded else []

    def infer(self, model: str, inputs: tuple[str, npt.NDArray[Any]], output: str, version: int | None) -> Answer:
        found = self.versions(model)
        version = version if version is not None and version > 0 else max(found, default=0)
        if version not in found:
            raise RolloutError(f"{model} has no version {version}")
        array = inputs[1]
        for step in self.loaded[model].ensemble_scheduling.step:
            taken, given = (FRAMES, FEATURES) if step.model_name.endswith("features") else (FEATURES, PROBABILITIES)
            array = self.infer(step.model_name, (taken, array), given, int(step.model_version)).output
        if self.loaded[model].ensemble_scheduling.step or model == WINDOW_MODEL:
            return Answer(array, version)
        return Answer(
            np.asarray(_session(self.root / model / str(version) / "model.onnx").run([output], {inputs[0]: array})[0]),
            version,
        )

    infer_stream = infer
