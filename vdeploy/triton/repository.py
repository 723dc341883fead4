"""The Triton model repository of a bundle: two stages and the ensemble of them.

    <root>/vgg19_features/      config.pbtxt, 1/model.onnx (and 1/model.py for the Python backend), or 1/model.plan,
                                or 1/model.xml and 1/model.bin with 1/model.py
    <root>/lstm_classifier/     config.pbtxt, labels.txt, 1/...
    <root>/violence_detector/   config.pbtxt, labels.txt, 1/

A deployment is a version folder, the same number in all three models. It appears by a rename, so Triton never sees half
of one, and the one before stays. Other models in the repository are left alone.
"""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any, NamedTuple

from google.protobuf import text_format  # type: ignore[import-untyped]
from tritonclient.grpc import model_config_pb2

from training.files import link_or_copy, publish_folder, sha256_of, staging_folder, write_text
from vdeploy.bundle import Bundle
from vdeploy.errors import RepositoryError
from vdeploy.triton.configs import LABELS, render_configs
from vdeploy.triton.install import TritonInstall
from vdeploy.triton.names import ENSEMBLE_MODEL, EXTRACTOR_MODEL, MODELS
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

CONFIG = "config.pbtxt"

_CODE = Path(__file__).with_name("python_model.py")


class _File(NamedTuple):
    source: Path
    sha256: str


@dataclasses.dataclass(frozen=True)
class Repository:
    """A model repository on disk.

    Attributes:
        root: Its folder.
        version: The version that Triton serves, the newest.
        models: Names of its models, the ensemble last.
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
        return tuple(dict.fromkeys((self.backend, self.classifier_backend or self.backend)))

    @property
    def python_runtimes(self) -> tuple[str, ...]:
        """The modules that stages of the Python backend import, each once."""
        stages = (self.root / model for model in self.models if self._backend_of(model) == "python")
        held = {name for stage in stages for name in _names_in(stage / str(self.version))}
        return tuple(module for file, module in PYTHON_RUNTIMES.items() if file in held)

    def _backend_of(self, model: str) -> Backend | None:
        if model == ENSEMBLE_MODEL:
            return None
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
            if model != EXTRACTOR_MODEL:
                wanted.append(folder / LABELS)
            backend, version = self._backend_of(model), folder / str(self.version)
            if backend is not None and (name := missing_file(backend, _names_in(version))):
                wanted.append(version / name)
            for file in wanted:
                if not file.is_file():
                    raise RepositoryError(f"{file} is missing from the model repository", "write the repository again")
            if not version.is_dir():
                raise RepositoryError(
                    f"{folder} has no version {self.version} in the model repository", "write the repository again"
                )
            self.input_shape(model)

    def input_shape(self, model: str) -> tuple[int, ...]:
        """The smallest batch that a model takes, from its configuration: one clip, and one where an axis is free.

        Raises:
            RepositoryError: The configuration cannot be read.
        """
        config = read_config(self.root / model / CONFIG)
        return (1, *(max(1, size) for size in config.input[0].dims))

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
    """Writes or brings up to date the three models of a bundle.

    Where the newest version holds the bundle's files already, it is used again; otherwise the next one is made.

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
    configs = render_configs(bundle.manifest, first, second, options)
    contents = {
        served.model: _stage_files(served, bundle.path(artifact), artifact.sha256)
        for served, artifact in zip((first, second), artifacts, strict=True)
    } | {ENSEMBLE_MODEL: {}}
    with one_line_errors(root):
        version = _version_for(root, contents)
        for model in MODELS:
            _publish(root / model / str(version), contents[model])
        for model, text in configs.items():
            if model != EXTRACTOR_MODEL:
                _write_if_new(root / model / LABELS, "".join(f"{name}\n" for name in bundle.manifest.classes))
            _write_if_new(root / model / CONFIG, text)
    return Repository(root, version, MODELS, first.backend, second.backend, "rate_limiter" in configs[first.model])


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
    newest = max((number for model in MODELS for number in versions_of(root / model)), default=0)
    held = {model: folder for model in MODELS if (folder := root / model / str(newest)).is_dir()}
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


def _write_if_new(file: Path, text: str) -> None:
    if not file.is_file() or file.read_bytes() != text.encode():
        write_text(file, text)
