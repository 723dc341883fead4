"""The Triton model repository of a bundle: two stages and the ensemble of them.

    <root>/vgg19_features/      config.pbtxt, 1/model.onnx (and 1/model.py for the Python backend)
    <root>/lstm_classifier/     config.pbtxt, labels.txt, 1/...
    <root>/violence_detector/   config.pbtxt, labels.txt, 1/

A deployment is a version folder, the same number in all three models. It appears by a rename, so Triton never sees half
of one, and the one before stays. Other models in the repository are left alone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from google.protobuf import text_format  # type: ignore[import-untyped]
from tritonclient.grpc import model_config_pb2

from training.files import publish_folder, sha256_of, staging_folder, write_text
from vdeploy.bundle import Bundle, Stage
from vdeploy.errors import RepositoryError
from vdeploy.triton.configs import LABELS, Backend, render_configs
from vdeploy.triton.install import TritonInstall
from vdeploy.triton.names import CLASSIFIER_MODEL, ENSEMBLE_MODEL, EXTRACTOR_MODEL, MODELS

__all__ = ["BackendChoice", "Repository", "write_repository"]

BackendChoice = Literal["auto", "python", "onnxruntime"]

CONFIG = "config.pbtxt"
MODEL_FILE = "model.onnx"
CODE_FILE = "model.py"

_CODE = Path(__file__).with_name("onnx_model.py")

_HINTS = {
    errno.ENOSPC: "free some space, or choose another folder",
    errno.EDQUOT: "free some space, or choose another folder",
    errno.ENOTDIR: "move the file in its way, or choose another folder",
    errno.EEXIST: "move the file in its way, or choose another folder",
}


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
        backend: The backend that runs both stages.
    """

    root: Path
    version: int
    models: tuple[str, ...]
    backend: Backend

    def check(self) -> None:
        """Looks at every file that Triton needs; it hangs for ever over some that are missing.

        Raises:
            RepositoryError: One is missing, or a configuration cannot be read.
        """
        for model in self.models:
            folder = self.root / model
            wanted = [folder / CONFIG]
            if model != EXTRACTOR_MODEL:
                wanted.append(folder / LABELS)
            if model != ENSEMBLE_MODEL:
                wanted += [folder / str(self.version) / name for name in _files_of(self.backend)]
            for file in wanted:
                if not file.is_file():
                    raise RepositoryError(f"{file} is missing from the model repository", "write the repository again")
            if not (folder / str(self.version)).is_dir():
                raise RepositoryError(
                    f"{folder} has no version {self.version} in the model repository", "write the repository again"
                )
            self.input_shape(model)

    def input_shape(self, model: str) -> tuple[int, ...]:
        """The smallest batch that a model takes, from its configuration: one clip, and one where an axis is free.

        Raises:
            RepositoryError: The configuration cannot be read.
        """
        file = self.root / model / CONFIG
        try:
            config = text_format.Parse(file.read_text(encoding="utf-8"), model_config_pb2.ModelConfig())
            return (1, *(max(1, size) for size in config.input[0].dims))
        except (OSError, UnicodeDecodeError, text_format.ParseError, IndexError) as error:
            raise RepositoryError(
                f"{file} cannot be read as a Triton configuration ({error})", "write the repository again"
            ) from error


def write_repository(
    bundle: Bundle,
    root: Path,
    *,
    backend: BackendChoice = "python",
    install: TritonInstall | None = None,
    extractor: str = "onnx-fp32",
    classifier: str = "onnx-fp32",
    instances: int = 1,
    threads: int | None = None,
) -> Repository:
    """Writes or brings up to date the three models of a bundle.

    Where the newest version holds the bundle's files already, it is used again; otherwise the next one is made.

    Args:
        bundle: What to serve.
        root: The repository's folder; it may hold other models.
        backend: What runs the stages; `"auto"` takes ONNX Runtime's own backend where `install` has it.
        install: The server that will read the repository; only `"auto"` looks at it.
        extractor: The extractor's format in the bundle, an ONNX one.
        classifier: The classifier's format in the bundle, an ONNX one.
        instances: Copies of each stage that run at the same time.
        threads: Cores of one extractor instance; `None` for all that the server may use.

    Returns:
        What was written.

    Raises:
        BundleError: The bundle does not hold a format.
        RepositoryError: A format is not ONNX, or the repository cannot be written.
    """
    chosen = _choose_backend(backend, install)
    contents = {
        EXTRACTOR_MODEL: _stage_files(bundle, "extractor", extractor, chosen),
        CLASSIFIER_MODEL: _stage_files(bundle, "classifier", classifier, chosen),
        ENSEMBLE_MODEL: {},
    }
    configs = render_configs(bundle.manifest, chosen, instances=instances, threads=threads)
    with _one_line_errors(root):
        version = _version_for(root, contents)
        for model in MODELS:
            _publish(root / model / str(version), contents[model])
        for model, text in configs.items():
            if model != EXTRACTOR_MODEL:
                _write_if_new(root / model / LABELS, "".join(f"{name}\n" for name in bundle.manifest.classes))
            _write_if_new(root / model / CONFIG, text)
    return Repository(root, version, MODELS, chosen)


def _choose_backend(wanted: BackendChoice, install: TritonInstall | None) -> Backend:
    if wanted != "auto":
        return wanted
    return "onnxruntime" if install is not None and install.has_backend("onnxruntime") else "python"


def _files_of(backend: Backend) -> tuple[str, ...]:
    return (MODEL_FILE, CODE_FILE) if backend == "python" else (MODEL_FILE,)


def _stage_files(bundle: Bundle, stage: Stage, format_name: str, backend: Backend) -> dict[str, _File]:
    artifact = bundle.artifact(stage, format_name)
    if not artifact.path.endswith(".onnx"):
        raise RepositoryError(
            f"{format_name} is not an ONNX format, and Triton serves the {stage} from ONNX", "choose an onnx-* format"
        )
    files = {MODEL_FILE: _File(bundle.path(artifact), artifact.sha256)}
    if backend == "python":
        files[CODE_FILE] = _File(_CODE, sha256_of(_CODE))
    return files


def _version_for(root: Path, contents: dict[str, dict[str, _File]]) -> int:
    """The newest version if what it holds is wanted (a killed writer may have left some models out), else the next."""
    newest = max((number for model in MODELS for number in _versions(root / model)), default=0)
    held = {model: folder for model in MODELS if (folder := root / model / str(newest)).is_dir()}
    wanted = {model: {name: file.sha256 for name, file in files.items()} for model, files in contents.items()}
    if newest and all(_digests_of(folder) == wanted[model] for model, folder in held.items()):
        return newest
    return newest + 1


def _versions(folder: Path) -> list[int]:
    if not folder.exists():
        return []
    return [int(entry.name) for entry in folder.iterdir() if entry.is_dir() and entry.name.isdecimal()]


def _digests_of(folder: Path) -> dict[str, str]:
    return {file.name: sha256_of(file) for file in folder.iterdir() if file.is_file()}


def _publish(final: Path, content: dict[str, _File]) -> None:
    if final.is_dir():
        return
    with staging_folder(final) as staged:
        for name, file in content.items():
            _link_or_copy(file.source, staged / name)
        publish_folder(staged, final)


def _link_or_copy(source: Path, target: Path) -> None:
    """Links a model, which is never changed in place and may be large; copies where links cannot be made."""
    if target.name == MODEL_FILE:
        with contextlib.suppress(OSError):
            os.link(source, target)
            return
    shutil.copyfile(source, target)


def _write_if_new(file: Path, text: str) -> None:
    if not file.is_file() or file.read_bytes() != text.encode():
        write_text(file, text)


@contextlib.contextmanager
def _one_line_errors(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = error.filename or root
        hint = _HINTS.get(error.errno or 0, "make the folder writable, or choose another")
        raise RepositoryError(
            f"the model repository {root} cannot be written: {where}: {error.strerror or error}", hint
        ) from error
