"""What is known to go wrong before a bundle is deployed to a running server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from vdeploy.artifacts.bundle import Bundle
from vdeploy.triton.deployment.journal import Deployments
from vdeploy.triton.planning.format_selection import Choice, choose_formats
from vdeploy.triton.planning.preflight import Check, Plans, preflight, refuse_failures
from vdeploy.triton.planning.server_facts import Target
from vdeploy.triton.repository.backends import BackendChoice, served_stage
from vdeploy.triton.repository.model_set import streams_of
from vdeploy.triton.repository.options import ServingOptions

__all__ = ["check_deployment", "formats_to_deploy"]


def formats_to_deploy(
    bundle: Bundle,
    root: Path,
    *,
    backend: BackendChoice | None = None,
    precision: str | None = None,
    extractor: str | None = None,
    classifier: str | None = None,
) -> Choice:
    """Chooses the format of each stage: the wanted one, else the one that serves now, else the backend's usual one.

    Args:
        bundle: The bundle.
        root: The model repository that the server reads.
        backend: What is to run the stages; `None` for what runs them now.
        precision: Precision of both stages.
        extractor: The extractor's format, whatever the precision.
        classifier: The classifier's format, whatever the precision.

    Raises:
        RepositoryError: There is no engine format of that precision, or the repository cannot be read.
    """
    deployments = Deployments(root)
    running = deployments.backend()
    if precision is None and backend in {None, running}:
        served = deployments.formats()
        extractor, classifier = extractor or served.get("extractor"), classifier or served.get("classifier")
    return choose_formats(bundle, backend or running, precision=precision, extractor=extractor, classifier=classifier)


def check_deployment(
    bundle: Bundle,
    root: Path,
    *,
    extractor: str,
    classifier: str,
    backend: BackendChoice | None = None,
    target: Target | None = None,
    on_check: Callable[[Check], None] = lambda _: None,
) -> None:
    """Looks at everything before `vdeploy.triton.deployment.deploy.deploy`; changes nothing.

    Args:
        bundle: The bundle.
        root: The model repository that the server reads.
        extractor: The extractor's format in the bundle.
        classifier: The classifier's format in the bundle.
        backend: What is to run the stages; `None` for what runs them now.
        target: What is known of the server.
        on_check: Is told of each check.

    Raises:
        BundleError: The bundle does not hold a format.
        RepositoryError: Something would go wrong.
    """
    chosen = backend or Deployments(root).backend()
    artifacts = bundle.artifact("extractor", extractor), bundle.artifact("classifier", classifier)
    stages = tuple(served_stage(artifact, chosen, None) for artifact in artifacts)
    checks = preflight(Plans(bundle, stages, root, ServingOptions(streams=streams_of(root)), target or Target()))
    for check in checks:
        on_check(check)
    refuse_failures(checks)
