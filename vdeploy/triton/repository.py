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
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from google.protobuf import text_format  # type: ignore[import-untyped]
from tritonclient.grpc import model_config_pb2

from training.files import publish_folder, sha256_of, staging_folder, write_text
from vdeploy.bundle import Bundle, Manifest, Stage
from vdeploy.errors import RepositoryError
from vdeploy.triton.install import TritonInstall
from vdeploy.triton.names import (
    CLASSIFIER_MODEL,
    ENSEMBLE_MODEL,
    EXTRACTOR_MODEL,
    FEATURES,
    FRAMES,
    MAX_BATCH_SIZE,
    MODELS,
    PROBABILITIES,
)

__all__ = ["Backend", "BackendChoice", "Repository", "render_configs", "write_repository"]

Backend = Literal["python", "onnxruntime"]
BackendChoice = Literal["auto", "python", "onnxruntime"]

CONFIG = "config.pbtxt"
LABELS = "labels.txt"
MODEL_FILE = "model.onnx"
CODE_FILE = "model.py"

_CODE = Path(__file__).with_name("onnx_model.py")

HEADER = "# Written by vdeploy from a bundle's manifest; a change here is lost at the next deployment.\n"

QUEUE_SIZE = 64
"""Requests that a stage lets wait before it refuses more."""
QUEUE_TIMEOUT_MICROSECONDS = 60_000_000
EXTRACTOR_DELAY_MICROSECONDS = 5_000
"""How long the extractor waits for a fuller batch; nothing beside a second of VGG19."""
CLASSIFIER_DELAY_MICROSECONDS = 500

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


def render_configs(
    manifest: Manifest, backend: Backend, *, instances: int = 1, threads: int | None = None
) -> dict[str, str]:
    """Renders the `config.pbtxt` of each model; the same on every machine.

    Args:
        manifest: What is served.
        backend: What runs the two stages.
        instances: Copies of each stage.
        threads: Cores of one extractor instance; `None` leaves it to the server's environment.

    Returns:
        Text by model name.
    """
    spec, dim = manifest.clip_spec, manifest.extractor.dim
    clip, features = [spec.frames, spec.size, spec.size, 3], [spec.frames, dim]
    extractor = _stage(
        EXTRACTOR_MODEL,
        backend,
        instances=instances,
        threads=threads or 0,
        clips_per_run=1,
        delay_microseconds=EXTRACTOR_DELAY_MICROSECONDS,
    )
    _add_input(extractor, FRAMES, model_config_pb2.TYPE_UINT8, [-1, *clip[1:]])
    _add_output(extractor, FEATURES, [-1, dim])

    classifier = _stage(
        CLASSIFIER_MODEL,
        backend,
        instances=instances,
        threads=1,
        clips_per_run=0,
        delay_microseconds=CLASSIFIER_DELAY_MICROSECONDS,
    )
    _add_input(classifier, FEATURES, model_config_pb2.TYPE_FP32, features)
    _add_output(classifier, PROBABILITIES, [2], LABELS)

    ensemble = _model(ENSEMBLE_MODEL)
    ensemble.platform = "ensemble"
    _add_input(ensemble, FRAMES, model_config_pb2.TYPE_UINT8, clip)
    _add_output(ensemble, PROBABILITIES, [2], LABELS)
    for model, taken, given in (
        (EXTRACTOR_MODEL, FRAMES, FEATURES),
        (CLASSIFIER_MODEL, FEATURES, PROBABILITIES),
    ):
        step = ensemble.ensemble_scheduling.step.add(model_name=model, model_version=-1)
        step.input_map[taken] = taken
        step.output_map[given] = given
    for name, value in _client_parameters(manifest).items():
        ensemble.parameters[name].string_value = json.dumps(value, sort_keys=True)
    return {
        config.name: HEADER + text_format.MessageToString(config, as_utf8=True)
        for config in (extractor, classifier, ensemble)
    }


def _client_parameters(manifest: Manifest) -> dict[str, Any]:
    canonical = json.dumps(manifest.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    return {
        "bundle_sha256": hashlib.sha256(canonical.encode()).hexdigest(),
        "classes": manifest.classes,
        "clip": manifest.clip,
        "extractor_dim": manifest.extractor.dim,
        "run": manifest.run,
        "temperature": manifest.temperature,
        "threshold": manifest.threshold,
    }


def _model(name: str) -> Any:
    config = model_config_pb2.ModelConfig(name=name, max_batch_size=MAX_BATCH_SIZE)
    config.version_policy.latest.num_versions = 1
    return config


def _stage(
    name: str, backend: Backend, *, instances: int, threads: int, clips_per_run: int, delay_microseconds: int
) -> Any:
    config = _model(name)
    config.backend = backend
    config.instance_group.add(kind=model_config_pb2.ModelInstanceGroup.KIND_CPU, count=instances)
    config.dynamic_batching.max_queue_delay_microseconds = delay_microseconds
    policy = config.dynamic_batching.default_queue_policy
    policy.max_queue_size = QUEUE_SIZE
    policy.default_timeout_microseconds = QUEUE_TIMEOUT_MICROSECONDS
    parameters = (
        {"intra_op_num_threads": threads, "max_clips_per_run": clips_per_run}
        if backend == "python"
        else {"intra_op_thread_count": threads, "inter_op_thread_count": 1}
    )
    for key, value in parameters.items():
        config.parameters[key].string_value = str(value)
    return config


def _add_input(config: Any, name: str, data_type: int, dims: list[int]) -> None:
    config.input.add(name=name, data_type=data_type, dims=dims)


def _add_output(config: Any, name: str, dims: list[int], labels: str = "") -> None:
    config.output.add(name=name, data_type=model_config_pb2.TYPE_FP32, dims=dims, label_filename=labels)


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
