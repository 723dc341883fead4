"""The Triton model repository of a bundle: two stages and the ensemble of them; with streams, two more models.

    <root>/vgg19_features/      config.pbtxt, 1/model.onnx (and 1/model.py for the Python backend), or 1/model.plan,
                                or 1/model.xml and 1/model.bin with 1/model.py
    <root>/lstm_classifier/     config.pbtxt, labels.txt, 1/...
    <root>/violence_detector/   config.pbtxt, labels.txt, 1/
    <root>/violence_window/     config.pbtxt, 1/model.py       where the server keeps the windows of streams
    <root>/violence_stream/     config.pbtxt, labels.txt, 1/   the ensemble with it

A version is a folder with the same number in all models; `vdeploy.triton.repository.writer` writes them.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from google.protobuf import text_format  # type: ignore[import-untyped]
from tritonclient.grpc import model_config_pb2

from vdeploy.core.errors import RepositoryError
from vdeploy.triton.names import CONFIG, ENSEMBLE_MODEL, STREAM_MODEL, STREAM_MODELS, WINDOW_MODEL
from vdeploy.triton.repository.backends import PYTHON_RUNTIMES, Backend, known_backend, missing_file
from vdeploy.triton.repository.model_configs import LABELS, has_labels
from vdeploy.triton.repository.model_set import model_set_of
from vdeploy.triton.repository.path_rules import OTHER_FOLDER, refuse_unusable_path
from vdeploy.triton.repository.version_policy import pinned_version

__all__ = ["Repository", "read_config", "versions_of"]

_NUMPY_TYPES = {
    model_config_pb2.TYPE_UINT8: np.uint8,
    model_config_pb2.TYPE_INT32: np.int32,
    model_config_pb2.TYPE_FP32: np.float32,
}


@dataclasses.dataclass(frozen=True)
class Repository:
    """A model repository on disk.

    Attributes:
        root: Its folder.
        version: The version that Triton serves, the newest.
        models: Names of its models, an ensemble after what it is made of.
        backend: The backend that runs the extractor.
        classifier_backend: The backend that runs the classifier; `None` for the same.
        address: What Triton reads in place of `root`, where that is only a mirror of it; empty where it is not.
    """

    root: Path
    version: int
    models: tuple[str, ...]
    backend: Backend
    classifier_backend: Backend | None = None
    address: str = ""

    @property
    def backends(self) -> tuple[Backend, ...]:
        """The backends that the server must have, each once."""
        of_window: tuple[Backend, ...] = ("python",) if WINDOW_MODEL in self.models else ()
        return tuple(dict.fromkeys((self.backend, self.classifier_backend or self.backend, *of_window)))

    @property
    def python_runtimes(self) -> tuple[str, ...]:
        """The modules that stages of the Python backend import, each once."""
        stages = (self.root / model for model in self.current_models if self._backend_of(model) == "python")
        held = {name for stage in stages for name in _names_in(stage / str(self.current_version))}
        return tuple(module for file, module in PYTHON_RUNTIMES.items() if file in held)

    @property
    def current_models(self) -> tuple[str, ...]:
        """Its models as deployments have left them: they replace stages, and what keeps streams may have been dropped.

        Models of streams that came after it was opened are left to whoever has brought them.
        """
        return tuple(
            model for model in model_set_of(self.root).models if model in self.models or model not in STREAM_MODELS
        )

    @property
    def current_version(self) -> int:
        """The version that a server serves which starts now: the one that deployments have chosen, if any."""
        try:
            return pinned_version((self.root / ENSEMBLE_MODEL / CONFIG).read_text(encoding="utf-8")) or self.version
        except (OSError, UnicodeDecodeError, RepositoryError):
            return self.version

    def _backend_of(self, model: str) -> Backend | None:
        """What runs a model that has a configuration; `None` for an ensemble."""
        if model in {ENSEMBLE_MODEL, STREAM_MODEL} or not (self.root / model / CONFIG).is_file():
            return None
        return known_backend(read_config(self.root / model / CONFIG).backend)

    @property
    def takes_turns(self) -> bool:
        """Whether stages share a GPU now and take turns on it, which requires an option of the server.

        Raises:
            RepositoryError: The configuration of the extractor cannot be read.
        """
        extractor = read_config(self.root / model_set_of(self.root).stages[0] / CONFIG)
        return any(group.HasField("rate_limiter") for group in extractor.instance_group)

    def check(self) -> None:
        """Looks at the path and every file that Triton needs; it hangs for ever over some that are missing.

        Raises:
            RepositoryError: The Python backend cannot take the path, a file is missing, or a configuration cannot be
                read.
        """
        if "python" in self.backends:
            refuse_unusable_path(self.root, OTHER_FOLDER)
        for model in self.current_models:
            folder = self.root / model
            wanted = [folder / CONFIG]
            if has_labels(model):
                wanted.append(folder / LABELS)
            backend, version = self._backend_of(model), folder / str(self.current_version)
            if backend is not None and (name := missing_file(model, backend, _names_in(version))):
                wanted.append(version / name)
            for file in wanted:
                if not file.is_file():
                    raise RepositoryError(f"{file} is missing from the model repository", "write the repository again")
            if not version.is_dir():
                raise RepositoryError(
                    f"{folder} has no version {version.name} in the model repository", "write the repository again"
                )
            self.sample(model)

    def sample(self, model: str) -> dict[str, npt.NDArray[Any]]:
        """The smallest batch of zeros that a model takes, from its configuration: 1 where an axis is free.

        Returns:
            Its inputs by name.

        Raises:
            RepositoryError: The configuration cannot be read.
        """
        config = read_config(self.root / model / CONFIG)
        return {
            tensor.name: np.zeros((1, *(max(1, size) for size in tensor.dims)), _NUMPY_TYPES[tensor.data_type])
            for tensor in config.input
        }

    def max_batch_size(self) -> int:
        """Clips in one request at most, from the configuration of the ensemble.

        Raises:
            RepositoryError: The configuration cannot be read.
        """
        return int(read_config(self.root / ENSEMBLE_MODEL / CONFIG).max_batch_size)


def read_config(file: Path) -> Any:
    """Reads a `config.pbtxt` with an input.

    Returns:
        A `ModelConfig`.

    Raises:
        RepositoryError: It cannot be read.
    """
    try:
        config = text_format.Parse(file.read_text(encoding="utf-8"), model_config_pb2.ModelConfig())
        config.input[0]
    except (OSError, UnicodeDecodeError, text_format.ParseError, IndexError) as error:
        raise RepositoryError(
            f"{file} cannot be read as a Triton configuration ({error})", "write the repository again"
        ) from error
    return config


def versions_of(model: Path) -> list[int]:
    """The versions in a model's folder, rising; none where there is no such folder."""
    entries = model.iterdir() if model.is_dir() else ()
    return sorted(int(entry.name) for entry in entries if entry.is_dir() and entry.name.isdecimal())


def _names_in(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir() if file.is_file()} if folder.is_dir() else set()
