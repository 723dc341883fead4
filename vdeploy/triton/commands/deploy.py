"""Put a bundle into service on a running Triton, or go back to the version before."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path

from vdeploy.artifacts.bundle.signing import open_signed
from vdeploy.core.progress import say
from vdeploy.inference.format_speeds import load_speeds
from vdeploy.inference.golden_clips import golden_clips_of
from vdeploy.inference.runtimes.base import available_cores
from vdeploy.triton.client.listeners import is_loopback
from vdeploy.triton.client.model_control import ModelControl
from vdeploy.triton.deployment.deploy import Deployed, deploy, rollback
from vdeploy.triton.deployment.journal import Journal
from vdeploy.triton.deployment.location import Location, open_location, view_location
from vdeploy.triton.deployment.running import running_backends, running_formats, running_options
from vdeploy.triton.deployment.status import Status, read_status
from vdeploy.triton.names import MAX_BATCH_SIZE
from vdeploy.triton.planning.accelerator import check_accelerator
from vdeploy.triton.planning.checks import Surroundings, refuse_failures
from vdeploy.triton.planning.memory import usable_memory
from vdeploy.triton.planning.plans import StageRequest, check_plan, plan_deployment
from vdeploy.triton.planning.server_facts import Target, find_target
from vdeploy.triton.planning.tuned_serving import TunedServing, load_tuned, with_tuned

__all__ = ["DeployRequest", "RunningServer", "deploy_bundle", "read_server_status", "roll_back"]


@dataclasses.dataclass(frozen=True)
class RunningServer:
    """A Triton that runs, and the repository that it reads.

    Attributes:
        url: `HOST:PORT` of its gRPC interface.
        repository: Its model repository: a folder, or an address in a bucket.
        timeout_seconds: How long a load, or an answer, may take.
        log: Its log file, where it can be read.
    """

    url: str
    repository: str
    timeout_seconds: float = 120.0
    log: Path | None = None

    def control(self, location: Location) -> ModelControl:
        """Its model control; `place` is the open repository.

        Raises:
            ClientError: No Triton answers.
        """
        return ModelControl(
            self.url,
            timeout_seconds=self.timeout_seconds,
            log_file=self.log,
            before_load=location.publish,
        )


@dataclasses.dataclass(frozen=True)
class DeployRequest:
    """What `vdeploy deploy` is asked for.

    Attributes:
        bundle: Bundle folder.
        server: The server.
        stages: How the stages are served.
        target: What the user says of the server.
        verify_key: PEM file of the key that must have signed the bundle; `None` takes unsigned ones.
        tuned: Whether what `vdeploy tune-serving` has found decides what the user has not named, where the server is
            on this machine.
    """

    bundle: Path
    server: RunningServer
    stages: StageRequest = dataclasses.field(default_factory=lambda: StageRequest(backend=None))
    target: Target = dataclasses.field(default_factory=Target)
    verify_key: Path | None = None
    tuned: bool = True


def deploy_bundle(request: DeployRequest) -> Deployed:
    """Puts a bundle into service beside the version that serves; that one stays if the bundle fails verification.

    Raises:
        BundleError: The bundle is damaged, not signed by the key, or does not hold a format.
        RepositoryError: Something would go wrong, or the repository cannot be written; nothing has changed then.
        RolloutError: The new version does not serve.
        ClientError: The server does not answer, or may not be controlled.
    """
    bundle = open_signed(request.bundle, request.verify_key)
    given = request.target
    target = find_target(None, capabilities=given.capabilities, tensorrt=given.tensorrt, onnxruntime=given.onnxruntime)
    with open_location(request.server.repository) as location:
        surroundings, stages = Surroundings(target), request.stages
        if is_loopback(request.server.url.rsplit(":", 1)[0]):
            surroundings = dataclasses.replace(
                surroundings, cores=available_cores(), memory=usable_memory(), speeds=load_speeds(bundle)
            )
            if request.tuned and (record := load_tuned(bundle)):
                stages = _tuned(stages, record, Journal(location.root))
        plan = plan_deployment(bundle, location.root, stages, surroundings)
        say(f"rollout: extractor in {plan.extractor.format}, classifier in {plan.classifier.format}")
        check_plan(plan, location.root, surroundings, lambda check: say(f"preflight: {check}"))
        golden = golden_clips_of(bundle, plan.extractor.format, plan.classifier.format)
        with request.server.control(location) as control:
            if check := check_accelerator(plan.options, control.server_version()):
                refuse_failures([check])
            return deploy(plan, control, location.root, golden, name=location.name)


def _tuned(stages: StageRequest, record: TunedServing, journal: Journal) -> StageRequest:
    """Lets a record decide, as far as the server that runs is known to be able to."""
    found, served = record.configuration, running_formats(journal).values()
    foreign = [name for name in (found.extractor, found.classifier) if name.startswith("openvino-")]
    if {*running_backends(journal)} != {found.backend} or (foreign and not {*foreign} & {*served}):
        say(f"tuned: {found} was found by tune-serving; start a server with it by vdeploy serve")
        return stages
    batch = running_options(journal).max_batch or MAX_BATCH_SIZE
    return with_tuned(
        stages, record, kept=("max_batch",) if found.max_batch < batch else ()
    )  # clients may send as many


def roll_back(server: RunningServer) -> Deployed:
    """Goes back to the version before; see `vdeploy.triton.deployment.deploy.rollback`."""
    with open_location(server.repository) as location, server.control(location) as control:
        return rollback(control, location.root, name=location.name)


def read_server_status(url: str, repository: str | None) -> Status:
    """Reads the state of a server, and of its repository where that is known.

    Raises:
        ClientError: The server does not answer.
        RepositoryError: The repository cannot be read.
    """
    with (
        view_location(repository) if repository else contextlib.nullcontext() as root,
        ModelControl(url) as control,
    ):
        return read_status(control, root)
