"""Write a bundle into a model repository: a version folder in each model, and the configurations.

A deployment is a version folder, the same number in all models. It appears by a rename, so Triton never sees half
of one, and the one before stays. Other models in the repository are left alone.
"""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import NamedTuple

from vdeploy.artifacts.bundle import Bundle
from vdeploy.core.errors import RepositoryError
from vdeploy.core.files import clone_or_copy, publish_folder, sha256_of, staging_folder, write_text
from vdeploy.triton.names import CONFIG, ENSEMBLE_MODEL, STREAM_MODEL, STREAM_MODELS, WINDOW_MODEL
from vdeploy.triton.repository.backends import CODE_FILE, STREAM_FILE, BackendChoice, ServedStage
from vdeploy.triton.repository.file_hashes import write_hashes
from vdeploy.triton.repository.model_configs import LABELS, has_labels
from vdeploy.triton.repository.model_set import model_set_for, model_set_of, stages_of, streams_of
from vdeploy.triton.repository.options import ServingOptions
from vdeploy.triton.repository.repository import Repository, versions_of
from vdeploy.triton.repository.serving_plan import ServingPlan, make_plan
from vdeploy.triton.repository.write_errors import one_line_errors
from vdeploy.triton.server.install import TritonInstall

__all__ = ["write_plan", "write_repository"]

_CODE = Path(__file__).parents[1] / "backend_code" / "stage_model.py"
_WINDOW_CODE = Path(__file__).parents[1] / "backend_code" / "window_model.py"


class _File(NamedTuple):
    source: Path
    sha256: str


def write_plan(plan: ServingPlan, root: Path) -> Repository:
    """Writes or updates the models of a plan.

    Where the newest version holds the plan's files already, it is used again; otherwise the next one is made. The
    models that keep the windows of streams come and go by `options.streams` alone.

    Args:
        plan: What to serve, and how.
        root: The repository's folder; it may hold other models.

    Returns:
        What was written.

    Raises:
        RepositoryError: The options do not fit the stages, or the repository cannot be written.
    """
    if not plan.options.streams:
        plan = dataclasses.replace(plan, options=dataclasses.replace(plan.options, streams=streams_of(root)))
    configs = plan.configs()
    model_set = model_set_for((plan.extractor.model, plan.classifier.model), streams=STREAM_MODEL in configs)
    _refuse_other_models(root, model_set.stages[:2])
    contents: dict[str, dict[str, _File]] = {model: {} for model in model_set.models}
    for served in plan.stages:
        artifact = plan.artifact(served)
        contents[served.model] = _stage_files(served, plan.bundle.path(artifact), artifact.sha256)
    if model_set.keeps_streams:
        contents[WINDOW_MODEL] = {CODE_FILE: _File(_WINDOW_CODE, sha256_of(_WINDOW_CODE))}
        if form := plan.bundle.manifest.stream:
            contents[WINDOW_MODEL][STREAM_FILE] = _File(plan.bundle.path(form), form.sha256)
    with one_line_errors(root):
        if model_set_of(root).keeps_streams and not model_set.keeps_streams:
            _remove_streams(root)
        version = _version_for(root, contents)
        for model, files in contents.items():
            _publish(root / model / str(version), files)
        write_hashes(root, version, _hashes_of(contents))
        for model, text in configs.items():
            if has_labels(model):
                _write_if_new(root / model / LABELS, "".join(f"{name}\n" for name in plan.bundle.manifest.classes))
            _write_if_new(root / model / CONFIG, text)
    return Repository(root, version, model_set.models, plan.extractor.backend, plan.classifier.backend)


def _refuse_other_models(root: Path, stages: tuple[str, ...]) -> None:
    """Refuse a repository that serves other backbones or heads: Triton would keep serving both."""
    held = stages_of(root)
    if (root / ENSEMBLE_MODEL / CONFIG).is_file() and held != stages:
        raise RepositoryError(
            f"{root} serves {' and '.join(held)}, the bundle holds {' and '.join(stages)}",
            "give the other models a repository of their own: --repo DIR, or bring them by vdeploy deploy",
        )


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
    """Plans and writes in one call; see `vdeploy.triton.repository.serving_plan.make_plan` and `write_plan`.

    Raises:
        BundleError: The bundle does not hold a format.
        RepositoryError: Triton cannot serve a format so, or the repository cannot be written.
    """
    plan = make_plan(
        bundle, backend=backend, install=install, extractor=extractor, classifier=classifier, options=options
    )
    return write_plan(plan, root)


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


def _version_for(root: Path, contents: dict[str, dict[str, _File]]) -> int:
    """The newest version if what it holds is wanted (a killed writer may have left some models out), else the next."""
    newest = max((number for model in contents for number in versions_of(root / model)), default=0)
    held = {model: folder for model in contents if (folder := root / model / str(newest)).is_dir()}
    wanted = _hashes_of(contents)
    if newest and all(_digests_of(folder) == wanted[model] for model, folder in held.items()):
        return newest
    return newest + 1


def _hashes_of(contents: dict[str, dict[str, _File]]) -> dict[str, dict[str, str]]:
    return {model: {name: file.sha256 for name, file in files.items()} for model, files in contents.items()}


def _digests_of(folder: Path) -> dict[str, str]:
    return {file.name: sha256_of(file) for file in folder.iterdir() if file.is_file()}


def _publish(final: Path, content: dict[str, _File]) -> None:
    if final.is_dir():
        return
    with staging_folder(final) as staged:
        for name, file in content.items():
            clone_or_copy(file.source, staged / name)
            if sha256_of(staged / name) != file.sha256:
                raise RepositoryError(f"{file.source} has changed while it was copied", "export the run again")
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
