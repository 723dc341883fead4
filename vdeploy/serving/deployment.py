"""What is known to go wrong before a bundle is deployed to a running server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from vdeploy.bundle import Bundle
from vdeploy.serving.preflight import Check, Plans, preflight, refuse_failures
from vdeploy.serving.target import Target
from vdeploy.triton.deployments import Deployments
from vdeploy.triton.layout import streams_of
from vdeploy.triton.options import ServingOptions
from vdeploy.triton.stages import BackendChoice, served_stage

__all__ = ["check_deployment"]


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
    """Looks at everything before `vdeploy.triton.deploy.deploy`; changes nothing.

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
