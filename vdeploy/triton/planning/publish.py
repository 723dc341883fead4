"""From a bundle and a wish to a repository: formats are chosen, everything is looked at, then it is written."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

from vdeploy.artifacts.bundle import Bundle
from vdeploy.triton.planning.format_selection import Choice, choose_formats
from vdeploy.triton.planning.preflight import Check, Plans, preflight, refuse_failures
from vdeploy.triton.planning.server_facts import Target
from vdeploy.triton.repository.backends import BackendChoice, served_stage
from vdeploy.triton.repository.model_set import streams_of
from vdeploy.triton.repository.options import ServingOptions
from vdeploy.triton.repository.repository import Repository
from vdeploy.triton.repository.writer import write_repository
from vdeploy.triton.server.install import TritonInstall

__all__ = ["Published", "Wish", "publish"]


@dataclasses.dataclass(frozen=True)
class Wish:
    """What a user asks for.

    Attributes:
        backend: What is to run the stages.
        precision: Precision of both stages, or `None` for the backend's usual one.
        extractor: Format of the extractor, whatever the precision.
        classifier: Format of the classifier, whatever the precision.
        options: How the models are to be run.
    """

    backend: BackendChoice = "auto"
    precision: str | None = None
    extractor: str | None = None
    classifier: str | None = None
    options: ServingOptions = dataclasses.field(default_factory=ServingOptions)


@dataclasses.dataclass(frozen=True)
class Published:
    """What was written, and what was looked at before.

    Attributes:
        repository: The repository.
        formats: The formats that it holds.
        checks: What the preflight found.
    """

    repository: Repository
    formats: Choice
    checks: tuple[Check, ...]


def publish(
    bundle: Bundle,
    root: Path,
    wish: Wish,
    *,
    install: TritonInstall | None = None,
    target: Target | None = None,
    host: str = "127.0.0.1",
    ports: Mapping[str, int] | None = None,
    on_check: Callable[[Check], None] = lambda _: None,
) -> Published:
    """Writes a repository, after everything that is known to go wrong was looked for.

    Args:
        bundle: What to serve.
        root: The repository's folder.
        wish: What the user asks for.
        install: The server that will read it, or `None` where it is elsewhere.
        target: What is known of the server.
        host: Address that a server will listen on.
        ports: Ports by name, where a server is to be started.
        on_check: Is told of each check.

    Raises:
        BundleError: The bundle does not hold a format.
        RepositoryError: Something would go wrong, or the repository cannot be written; nothing has changed then.
    """
    known = target or Target()
    formats = choose_formats(
        bundle,
        wish.backend,
        precision=wish.precision,
        extractor=wish.extractor,
        classifier=wish.classifier,
        on_gpu=bool(wish.options.gpus),
        install=install,
        target=known,
    )
    options = dataclasses.replace(
        wish.options,
        accelerate=wish.options.accelerate or formats.accelerate,
        streams=wish.options.streams or streams_of(root),
    )
    stages = tuple(
        served_stage(artifact, wish.backend, install)
        for artifact in (
            bundle.artifact("extractor", formats.extractor),
            bundle.artifact("classifier", formats.classifier),
        )
    )
    checks = preflight(Plans(bundle, stages, root, options, known, install, host, ports or {}))
    if formats.reason:
        checks = (Check("engines", True, f"none is served, {formats.reason}"), *checks)
    for check in checks:
        on_check(check)
    refuse_failures(checks)
    repository = write_repository(
        bundle,
        root,
        backend=wish.backend,
        install=install,
        extractor=formats.extractor,
        classifier=formats.classifier,
        options=options,
    )
    return Published(repository, formats, checks)
