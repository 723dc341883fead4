"""Plan what is served from a bundle and a request, for a repository to be filled or for a running server."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from vdeploy.artifacts.bundle import Bundle
from vdeploy.triton.deployment.journal import Journal
from vdeploy.triton.planning.format_selection import FormatSelection, choose_formats
from vdeploy.triton.planning.preflight import Check, Surroundings, preflight, refuse_failures
from vdeploy.triton.repository.backends import BackendChoice
from vdeploy.triton.repository.model_set import streams_of
from vdeploy.triton.repository.options import ServingOptions
from vdeploy.triton.repository.serving_plan import ServingPlan, make_plan

__all__ = ["StageRequest", "check_plan", "formats_to_deploy", "plan_deployment", "plan_serving"]


@dataclasses.dataclass(frozen=True)
class StageRequest:
    """How a user wants the stages of a bundle to be served.

    Attributes:
        backend: What runs the stages; `None` for what runs them now, where a server is running.
        precision: Precision of both stages; `None` for the backend's usual one.
        extractor: Format of the extractor, whatever the precision.
        classifier: Format of the classifier, whatever the precision.
        options: How the models are run.
    """

    backend: BackendChoice | None = "auto"
    precision: str | None = None
    extractor: str | None = None
    classifier: str | None = None
    options: ServingOptions = dataclasses.field(default_factory=ServingOptions)


def plan_serving(
    bundle: Bundle, root: Path, request: StageRequest, surroundings: Surroundings | None = None
) -> ServingPlan:
    """Plans what `vdeploy serve` writes.

    Args:
        bundle: What to serve.
        root: The repository's folder.
        request: What the user asks for.
        surroundings: The server that will read the repository, and what is known of it.

    Raises:
        BundleError: The bundle does not hold a format.
        RepositoryError: Triton cannot serve a format, or not with that backend.
    """
    where = surroundings or Surroundings()
    backend = request.backend or "auto"
    formats = choose_formats(
        bundle,
        backend,
        precision=request.precision,
        extractor=request.extractor,
        classifier=request.classifier,
        on_gpu=bool(request.options.gpus),
        install=where.install,
        target=where.target,
    )
    return make_plan(
        bundle,
        backend=backend,
        install=where.install,
        extractor=formats.extractor,
        classifier=formats.classifier,
        options=dataclasses.replace(
            request.options,
            accelerate=request.options.accelerate or formats.accelerate,
            streams=request.options.streams or streams_of(root),
        ),
        reason=formats.reason,
    )


def formats_to_deploy(bundle: Bundle, root: Path, request: StageRequest | None = None) -> FormatSelection:
    """Selects the format of each stage: the requested one, else the one that serves now, else the backend's usual one.

    Args:
        bundle: The bundle.
        root: The model repository that the server reads.
        request: What the user asks for.

    Raises:
        RepositoryError: There is no engine format of that precision, or the repository cannot be read.
    """
    asked = request or StageRequest(backend=None)
    journal = Journal(root)
    running = journal.backend()
    extractor, classifier = asked.extractor, asked.classifier
    if asked.precision is None and asked.backend in {None, running}:
        served = journal.formats()
        extractor, classifier = extractor or served.get("extractor"), classifier or served.get("classifier")
    backend = asked.backend or running
    return choose_formats(bundle, backend, precision=asked.precision, extractor=extractor, classifier=classifier)


def plan_deployment(bundle: Bundle, root: Path, request: StageRequest | None = None) -> ServingPlan:
    """Plans what `vdeploy deploy` puts into service, in the formats of `formats_to_deploy`.

    Args:
        bundle: The bundle.
        root: The model repository that the server reads.
        request: What the user asks for; its options do not count, as those of what serves now stay.

    Raises:
        BundleError: The bundle does not hold a format.
        RepositoryError: Triton cannot serve a format, or not with that backend, or the repository cannot be read.
    """
    formats = formats_to_deploy(bundle, root, request)
    return make_plan(
        bundle,
        backend=(request.backend if request else None) or Journal(root).backend(),
        extractor=formats.extractor,
        classifier=formats.classifier,
        options=ServingOptions(streams=streams_of(root)),
    )


def check_plan(
    plan: ServingPlan,
    root: Path,
    surroundings: Surroundings | None = None,
    on_check: Callable[[Check], None] = lambda _: None,
) -> tuple[Check, ...]:
    """Runs the preflight, and refuses what it finds wrong; changes nothing.

    Args:
        plan: What is to be served.
        root: The repository.
        surroundings: Where.
        on_check: Is called with each check.

    Returns:
        The checks, all of which passed.

    Raises:
        RepositoryError: A check failed.
    """
    checks = preflight(plan, root, surroundings or Surroundings())
    for check in checks:
        on_check(check)
    refuse_failures(checks)
    return checks
