"""Plan what is served from a bundle and a request, for a repository to be filled or for a running server."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vdeploy.artifacts.bundle import Bundle
from vdeploy.core.errors import RepositoryError
from vdeploy.inference.format_speeds import SpeedRecord
from vdeploy.triton.deployment.journal import Journal
from vdeploy.triton.deployment.running import running_backends, running_formats, running_options
from vdeploy.triton.planning.checks import Check, Surroundings, refuse_failures
from vdeploy.triton.planning.format_selection import FormatSelection, choose_formats
from vdeploy.triton.planning.memory import fit_memory
from vdeploy.triton.planning.preflight import preflight
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
        options: How the models are run; a deployment keeps how they are run now instead.
        changes: The options that the user has named, by name; a deployment changes these alone.
    """

    backend: BackendChoice | None = "auto"
    precision: str | None = None
    extractor: str | None = None
    classifier: str | None = None
    options: ServingOptions = dataclasses.field(default_factory=ServingOptions)
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)


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
        speeds=_speeds(where, request.options) if backend == "auto" else None,
        runs_openvino=_has_openvino(where),
    )
    plan = make_plan(
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
        speed_reason=formats.speed_reason,
    )
    return fit_memory(_share_cores(plan, where.cores), where.memory)


def formats_to_deploy(
    bundle: Bundle, root: Path, request: StageRequest | None = None, surroundings: Surroundings | None = None
) -> FormatSelection:
    """Selects the format of each stage: the requested one, else the one that serves now, else the backend's usual one.

    Of a requested precision, the fastest format is taken where that was measured on the server's machine. OpenVINO is
    among them where it serves now: that a running server has it is not known otherwise.

    Args:
        bundle: The bundle.
        root: The model repository that the server reads.
        request: What the user asks for.
        surroundings: What is known of the server and its machine.

    Raises:
        RepositoryError: There is no engine format of that precision, or the repository cannot be read.
    """
    asked = request or StageRequest(backend=None)
    journal = Journal(root)
    running, second = running_backends(journal)
    extractor, classifier, served = asked.extractor, asked.classifier, running_formats(journal)
    if asked.precision is None and asked.backend in {None, running}:
        extractor, classifier = extractor or served.get("extractor"), classifier or served.get("classifier")
    where = surroundings or Surroundings()
    return choose_formats(
        bundle,
        asked.backend or running,
        precision=asked.precision,
        extractor=extractor,
        classifier=classifier,
        speeds=_speeds(where, running_options(journal)) if asked.backend is None and asked.precision else None,
        runs_openvino=running == second == "python" and any(name.startswith("openvino-") for name in served.values()),
    )


def plan_deployment(
    bundle: Bundle, root: Path, request: StageRequest | None = None, surroundings: Surroundings | None = None
) -> ServingPlan:
    """Plans what `vdeploy deploy` puts into service, in the formats of `formats_to_deploy`.

    Args:
        bundle: The bundle.
        root: The model repository that the server reads.
        request: What the user asks for. How the models are run stays, but for its `changes`.
        surroundings: What is known of the server and its machine.

    Raises:
        BundleError: The bundle does not hold a format.
        RepositoryError: Triton cannot serve a format, or not with that backend, or the repository cannot be read.
    """
    asked, where = request or StageRequest(backend=None), surroundings or Surroundings()
    formats = formats_to_deploy(bundle, root, asked, where)
    journal = Journal(root)
    first, second = running_backends(journal)
    plan = make_plan(
        bundle,
        backend=asked.backend or first,
        classifier_backend=asked.backend or second,
        extractor=formats.extractor,
        classifier=formats.classifier,
        options=_changed(running_options(journal), asked.changes, keeps_streams=journal.model_set.keeps_streams),
        speed_reason=formats.speed_reason,
    )
    return fit_memory(_share_cores(plan, where.cores), where.memory)


def _speeds(where: Surroundings, options: ServingOptions) -> SpeedRecord | None:
    """The record to choose by: none on GPUs, nor with a limit of memory, which is only computed for ONNX."""
    return where.speeds if not options.gpus and options.memory_gb is None else None


def _has_openvino(where: Surroundings) -> bool:
    return where.install is not None and where.install.has_backend("python") and not where.target.lacks_openvino


def _changed(kept: ServingOptions, changes: Mapping[str, Any], *, keeps_streams: bool) -> ServingOptions:
    streams = changes.get("streams")
    if streams is None:
        return dataclasses.replace(kept, **changes)
    if bool(streams.limit) != keeps_streams:
        raise RepositoryError(
            f"a deployment neither adds nor removes the models of streams, as --streams {streams.limit} would",
            "leave it out, or fill another repository: vdeploy serve BUNDLE --repo OTHER --streams N",
        )
    if kept.streams is not None:
        streams = dataclasses.replace(kept.streams, limit=streams.limit)
    return dataclasses.replace(kept, **{**changes, "streams": streams})


def _share_cores(plan: ServingPlan, cores: int | None) -> ServingPlan:
    """Divide the cores among several instances of an extractor in ONNX Runtime: each would take all of them."""
    if cores is None or not plan.needs_threads:
        return plan
    return dataclasses.replace(plan, options=dataclasses.replace(plan.options, threads=cores))


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
