"""The Triton model repository of a bundle: two stages and the ensemble of them; with streams, two more models.

    <root>/vgg19_features/      config.pbtxt, 1/model.onnx (and 1/model.py for the Python backend), or 1/model.plan,
                                or 1/model.xml and 1/model.bin with 1/model.py
    <root>/lstm_classifier/     config.pbtxt, labels.txt, 1/...
    <root>/violence_detector/   config.pbtxt, labels.txt, 1/
    <root>/violence_window/     config.pbtxt, 1/model.py       where the server keeps the windows of streams
    <root>/violence_stream/     config.pbtxt, labels.txt, 1/   the ensemble with it

A deployment is a version folder, the same number in all models. It appears by a rename, so Triton never sees half
of one, and the one before stays. Other models in the repository are left alone.
"""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from google.protobuf import text_format  # type: ignore[import-untyped]
from tritonclient.grpc import model_config_pb2

from training.files import link_or_copy, publish_folder, sha256_of, staging_folder, write_text
from vdeploy.bundle import Bundle
from vdeploy.errors import RepositoryError
from vdeploy.triton.configs import LABELS, render_configs
from vdeploy.triton.install import TritonInstall
from vdeploy.triton.layout import PLAIN, WITH_STREAMS, layout_of, streams_of
from vdeploy.triton.names import (
    CONFIG,
    ENSEMBLE_MODEL,
    EXTRACTOR_MODEL,
    STREAM_MODEL,
    STREAM_MODELS,
    WINDOW_MODEL,
)
from vdeploy.triton.options import ServingOptions
from vdeploy.triton.paths import OTHER_FOLDER, refuse_unusable_path
from vdeploy.triton.stages import (
    CODE_FILE,
    PYTHON_RUNTIMES,
    Backend,
    BackendChoice,
    ServedStage,
    missing_file,
    served_stage,
)
from vdeploy.triton.write_errors import one_line_errors

__all__ = ["CONFIG", "BackendChoice", "Repository", "read_config", "versions_of", "write_repository"]

_CODE = Path(__file__).with_name("python_model.py")
_WINDOW_CODE = Path(__file__).with_name("window_model.py")

_NUMPY_TYPES = {
    model_config_pb2.TYPE_UINT8: np.uint8,
    model_config_pb2.TYPE_INT32: np.int32,
    model_config_pb2.TYPE_FP32: np.float32,
}

_WITHOUT_LABELS = {EXTRACTOR_MODEL, WINDOW_MODEL}


class _File(NamedTuple):
    source: Path
    sha256: str


@dataclasses.dataclass(frozen=True)
class Repository:
    """A model repository on disk.

    Attributes:
        root: Its folder.
        version: The version that Triton serves, the newest.
        models: Names of its models, an ensemble after what it is made of.
        backend: The backend that runs the extractor.
        classifier_backend: The backend that runs the classifier; `None` for the same.
        takes_turns: Whether stages share a GPU and take turns on it, which the server must be told.
        address: What Triton reads in place of `root`, where that is only a mirror of it; empty where it is not.
    """

    root: Path
    version: int
    models: tuple[str, ...]
    backend: Backend
    classifier_backend: Backend | None = None
    takes_turns: bool = False
    address: str = ""

    @property
    def backends(self) -> tuple[Backend, ...]:
        """The backends that the server must have, each once."""
        of_window: tuple[Backend, ...] = ("python",) if WINDOW_MODEL in self.models else ()
        return tuple(dict.fromkeys((self.backend, self.classifier_backend or self.backend, *of_window)))

    @property
    def python_runtimes(self) -> tuple[str, ...]:
        """The modules that stages of the Python backend import, each once."""
        stages = (self.root / model for model in self.models if self._backend_of(model) == "python")
        held = {name for stage in stages for name in _names_in(stage / str(self.version))}
        return tuple(module for file, module in PYTHON_RUNTIMES.items() if file in held)

    def _backend_of(self, model: str) -> Backend | None:
        if model in {ENSEMBLE_MODEL, STREAM_MODEL}:
            return None
        if model == WINDOW_MODEL:
            return "python"
        return self.backend if model == EXTRACTOR_MODEL else self.classifier_backend or self.backend

    def check(self) -> None:
        """Looks at the path and every file that Triton needs; it hangs for ever over some that are missing.

        Raises:
            RepositoryError: The Python backend cannot take the path, a file is missing, or a configuration cannot be
                read.
        """
        if "python" in self.backends:
            refuse_unusable_path(self.root, OTHER_FOLDER)
        for model in self.models:
            folder = self.root / model
            wanted = [folder / CONFIG]
            if model not in _WITHOUT_LABELS:
                wanted.append(folder / LABELS)
            backend, version = self._backend_of(model), folder / str(self.version)
            if backend is not None and (name := missing_file(model, backend, _names_in(version))):
                wanted.append(version / name)
            for file in wanted:
                if not file.is_file():
                    raise RepositoryError(f"{file} is missing from the model repository", "write the repository again")
            if not version.is_dir():
                raise RepositoryError(
                    f"{folder} has no version {self.version} in the model repository", "write the repository again"
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


def write_repository(
    bundle: Bundle,
    root: Path,
    *,
    backend: BackendChoice = "python",
    install: TritonInstall | None = None,
    extractor: str = "onnx-fp32",
    classifier: str = "onnx-fp32",
    options: ServingOptions | None = None,
) -> Repository:
    """Writes or brings up to date the models of a bundle.

    Where the newest version holds the bundle's files already, it is used again; otherwise the next one is made. The
    models that keep the windows of streams come and go by `options.streams` alone.

    Args:
        bundle: What to serve.
        root: The repository's folder; it may hold other models.
        backend: What runs the stages; `"auto"` takes TensorRT for engines and ONNX Runtime's own backend for ONNX files
            where `install` has it.
        install: The server that will read the repository; only `"auto"` looks at it.
        extractor: The extractor's format in the bundle.
        classifier: The classifier's format in the bundle.
        options: How the models are to be run; `None` for the defaults.

    Returns:
        What was written.

    Raises:
        BundleError: The bundle does not hold a format.
        RepositoryError: Triton cannot serve a format so, or the repository cannot be written.
    """
    artifacts = bundle.artifact("extractor", extractor), bundle.artifact("classifier", classifier)
    first, second = (served_stage(artifact, backend, install) for artifact in artifacts)
    chosen = options or ServingOptions()
    chosen = chosen if chosen.streams else dataclasses.replace(chosen, streams=streams_of(root))
    configs = render_configs(bundle.manifest, first, second, chosen)
    layout = WITH_STREAMS if STREAM_MODEL in configs else PLAIN
    contents: dict[str, dict[str, _File]] = {model: {} for model in layout.models}
    for served, artifact in zip((first, second), artifacts, strict=True):
        contents[served.model] = _stage_files(served, bundle.path(artifact), artifact.sha256)
    if layout.keeps_streams:
        contents[WINDOW_MODEL] = {CODE_FILE: _File(_WINDOW_CODE, sha256_of(_WINDOW_CODE))}
    with one_line_errors(root):
        if layout_of(root).keeps_streams and not layout.keeps_streams:
            _remove_streams(root)
        version = _version_for(root, contents)
        for model, files in contents.items():
            _publish(root / model / str(version), files)
        for model, text in configs.items():
            if model not in _WITHOUT_LABELS:
                _write_if_new(root / model / LABELS, "".join(f"{name}\n" for name in bundle.manifest.classes))
            _write_if_new(root / model / CONFIG, text)
    takes_turns = "rate_limiter" in configs[first.model]
    return Repository(root, version, layout.models, first.backend, second.backend, takes_turns)


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


def _stage_files(served: ServedStage, artifact: Path, sha256: str) -> dict[str, _File]:
    """What goes into a version folder, by name: code, and the artifact, or the files in it where it is a folder."""
    found = {}
    for name in served.files:
        if name == CODE_FILE:
            found[name] = _File(_CODE, sha256_of(_CODE))
        elif artifact.is_dir():
            found[name] = _File(artifact / name, sha256_of(artifact / name))
        else:
            found[name] = _File(artifact, sha256)
    return found


def _names_in(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir() if file.is_file()} if folder.is_dir() else set()


def _version_for(root: Path, contents: dict[str, dict[str, _File]]) -> int:
    """The newest version if what it holds is wanted (a killed writer may have left some models out), else the next."""
    newest = max((number for model in contents for number in versions_of(root / model)), default=0)
    held = {model: folder for model in contents if (folder := root / model / str(newest)).is_dir()}
    wanted = {model: {name: file.sha256 for name, file in files.items()} for model, files in contents.items()}
    if newest and all(_digests_of(folder) == wanted[model] for model, folder in held.items()):
        return newest
    return newest + 1


def _digests_of(folder: Path) -> dict[str, str]:
    return {file.name: sha256_of(file) for file in folder.iterdir() if file.is_file()}


def _publish(final: Path, content: dict[str, _File]) -> None:
    if final.is_dir():
        return
    with staging_folder(final) as staged:
        for name, file in content.items():
            if name == CODE_FILE:
                shutil.copyfile(file.source, staged / name)
            else:
                link_or_copy(file.source, staged / name)
        publish_folder(staged, final)


def _remove_streams(root: Path) -> None:
    """Removes the models that keep streams, their configurations first, the ensemble's first of all."""
    for model in reversed(STREAM_MODELS):
        (root / model / CONFIG).unlink(missing_ok=True)
    for model in STREAM_MODELS:
        shutil.rmtree(root / model)


def _write_if_new(file: Path, text: str) -> None:
    if not file.is_file() or file.read_bytes() != text.encode():
        write_text(file, text)
