"""Repositories that already hold versions, chosen by `vdeploy serve` or by deployments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vdeploy.artifacts.bundle import Bundle
from vdeploy.core.errors import RepositoryError
from vdeploy.triton.deployment.journal import Journal
from vdeploy.triton.deployment.running import running_backends, running_options
from vdeploy.triton.names import CONFIG
from vdeploy.triton.repository.backends import Backend, known_backend
from vdeploy.triton.repository.repository import Repository, read_config

__all__ = ["keeps_deployed", "refuse_threads", "standing_repository"]


def keeps_deployed(root: Path, name: str, bundle: Bundle, *, allowed: bool) -> bool:
    """Whether a repository stays as deployments have left it, instead of going back to a bundle that it has seen.

    Once `vdeploy deploy` or `rollback` has chosen the version, writing another would have every server that reads the
    repository take it up, unproven, when next it looks.

    Args:
        root: The repository.
        name: What messages call it.
        bundle: What is to be served.
        allowed: Whether it may stay so. It does if the bundle served from it before, as where a container that names
            the bundle starts again; a bundle that is new to it is served.

    Raises:
        RepositoryError: Journal have chosen the version, and it may not stay so; nothing has changed.
    """
    journal = Journal(root, name)
    active = journal.active()
    if active is None or not journal.is_pinned():
        return False
    if not allowed:
        raise RepositoryError(
            f"{name} serves version {active}, which a deployment or rollback has chosen; what serve writes would take "
            "over from it unproven",
            f"bring the bundle by vdeploy deploy, start a server as it stands by vdeploy serve --repo {name} --launch, "
            "or choose another folder with --repo",
        )
    records = (journal.record(version) for version in journal.versions())
    return any(record is not None and record.bundle_sha256 == bundle.manifest.digest for record in records)


def standing_repository(root: Path, name: str) -> Repository:
    """Reads what a server would serve that is started on a repository now.

    Args:
        root: The repository.
        name: What messages call it.

    Raises:
        RepositoryError: Nothing serves from it, or a configuration cannot be read.
    """
    journal = Journal(root, name)
    active = journal.active()
    if active is None:
        raise RepositoryError(f"{name} holds nothing to serve", "name a BUNDLE to fill it with, or check --repo")
    extractor, classifier = (read_config(root / stage / CONFIG) for stage in journal.model_set.stages[:2])
    return Repository(root, active, journal.model_set.models, _backend(root, extractor), _backend(root, classifier))


def refuse_threads(root: Path, name: str, threads: int) -> None:
    """Refuses a number of threads for a server that is started on a repository as it stands, where it has no effect.

    The environment of the server gives it to the Python backend, unless the configuration has one of its own; other
    backends read the configuration alone.

    Args:
        root: The repository.
        name: What messages call it.
        threads: The number.

    Raises:
        RepositoryError: It would have no effect.
    """
    journal = Journal(root, name)
    (backend, _), kept = running_backends(journal), running_options(journal).threads
    if threads != kept and not (backend == "python" and kept is None):
        held = "the number of threads that ONNX Runtime chooses" if kept is None else f"--threads {kept}"
        held = "no threads on the CPU" if backend == "tensorrt" else held
        raise RepositoryError(
            f"--threads {threads} would have no effect: {name} is configured with {held}, for the {backend} backend",
            f"leave it out, or change it when a bundle is deployed: vdeploy deploy BUNDLE --threads {threads}",
        )


def _backend(root: Path, config: Any) -> Backend:
    backend = known_backend(config.backend)
    if backend is None:
        model, found = root / config.name, config.backend or "no backend"
        raise RepositoryError(f"{model} runs in {found}, which vdeploy does not know", "check --repo")
    return backend
