"""Fill a model repository from a bundle, and create the server that `vdeploy serve` supervises."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from vdeploy.artifacts.bundle import Bundle
from vdeploy.artifacts.bundle.golden import GOLDEN
from vdeploy.artifacts.bundle.signing import open_signed
from vdeploy.core.errors import RepositoryError
from vdeploy.core.progress import say
from vdeploy.inference.format_speeds import load_speeds
from vdeploy.inference.golden_clips import golden_clips_of
from vdeploy.inference.runtimes.base import available_cores
from vdeploy.triton.client.listeners import is_loopback
from vdeploy.triton.deployment.journal import Journal
from vdeploy.triton.deployment.location import Location, open_location
from vdeploy.triton.deployment.running import running_formats
from vdeploy.triton.names import DEFAULT_GRPC_PORT, DEFAULT_METRICS_PORT
from vdeploy.triton.planning.checks import Surroundings
from vdeploy.triton.planning.existing_repository import keeps_deployed, refuse_threads, standing_repository
from vdeploy.triton.planning.memory import usable_memory
from vdeploy.triton.planning.plans import StageRequest, check_plan, plan_serving
from vdeploy.triton.planning.server_facts import Target, find_target
from vdeploy.triton.planning.tuned_serving import load_tuned, with_tuned
from vdeploy.triton.repository.repository import Repository
from vdeploy.triton.repository.serving_plan import ServingPlan
from vdeploy.triton.repository.writer import write_plan
from vdeploy.triton.server.install import TritonInstall, find_install, local_install
from vdeploy.triton.server.ports import resolve_host
from vdeploy.triton.server.server import TritonServer

__all__ = ["ServeRequest", "Served", "prepare_serving"]


LOCK_SECONDS = 30.0
"""How long to wait while another process writes the repository."""


@dataclasses.dataclass(frozen=True)
class ServeRequest:
    """What `vdeploy serve` is asked for.

    Attributes:
        bundle: Bundle folder; `None` to start the repository as it stands.
        repository: Model repository: a folder, or an address in a bucket.
        stages: How the stages are served.
        launch: Whether a server is started.
        tuned: Whether what `vdeploy tune-serving` has found on this machine decides what the user has not named.
        keep_deployed: Whether a version that a deployment has chosen stays, where the bundle served from here before.
        target: What the user says of the server; the rest is read from its installation.
        verify_key: PEM file of the key that must have signed the bundle; `None` takes unsigned ones.
        triton: The `tritonserver` program; `None` to look for one.
        host: Address to listen on.
        http_port: Port of HTTP; `None` for none.
        grpc_port: Port of gRPC.
        metrics_port: Port of the Prometheus metrics; 0 for none.
        shared_memory: Whether clients may register shared memory.
        traces: Where a collector takes traces of requests; empty for nowhere.
        threads: Cores for the extractor; `None` for all.
        startup_timeout: Seconds to wait for the first answer.
        log: Log file of the server; `None` for one in the cache.
    """

    bundle: Path | None
    repository: str = "triton_repo"
    stages: StageRequest = dataclasses.field(default_factory=StageRequest)
    launch: bool = False
    tuned: bool = True
    keep_deployed: bool = False
    target: Target = dataclasses.field(default_factory=Target)
    verify_key: Path | None = None
    triton: Path | None = None
    host: str = "127.0.0.1"
    http_port: int | None = None
    grpc_port: int = DEFAULT_GRPC_PORT
    metrics_port: int = DEFAULT_METRICS_PORT
    shared_memory: bool = False
    traces: str = ""
    threads: int | None = None
    startup_timeout: float = 180.0
    log: Path | None = None

    @property
    def ports(self) -> dict[str, int]:
        """Ports by name, none where no server is started."""
        ports = {"http": self.http_port or 0, "grpc": self.grpc_port, "metrics": self.metrics_port}
        return ports if self.launch else {}


@dataclasses.dataclass(frozen=True)
class Served:
    """A repository that is ready to be served.

    Attributes:
        repository: The repository.
        name: What messages call it.
        formats: The format of each stage, by stage.
        checks: What the preflight has found, a line each.
        server: The server, not started yet; `None` where none was asked for.
        launchable: Whether the server of this machine has the backends; `--launch` fetches one with the Python backend.
    """

    repository: Repository
    name: str
    formats: dict[str, str]
    checks: tuple[str, ...]
    server: TritonServer | None
    launchable: bool = True

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {
            "repository": self.name,
            "version": self.repository.version,
            "models": list(self.repository.models),
            "backend": self.repository.backend,
            "backends": list(self.repository.backends),
            "formats": self.formats,
            "checks": list(self.checks),
        }


def prepare_serving(request: ServeRequest) -> Served:
    """Fills the repository, where there is a bundle, and makes the server, where one is asked for.

    Raises:
        BundleError: The bundle is damaged, not signed by the key, or does not hold a format.
        RepositoryError: Something would go wrong, or the repository cannot be written; nothing has changed then.
        ServerError: There is no Triton server.
    """
    if request.bundle is None and not request.launch:
        raise RepositoryError(
            "there is no BUNDLE to fill the repository with", "name one, or start the repository as it stands: --launch"
        )
    bundle = None if request.bundle is None else open_signed(request.bundle, request.verify_key)
    needs_install = request.launch or request.triton is not None or request.stages.backend == "auto"
    install = find_install(request.triton) if needs_install else None
    target = find_target(
        install,
        capabilities=request.target.capabilities,
        tensorrt=request.target.tensorrt,
        onnxruntime=request.target.onnxruntime,
    )
    surroundings = Surroundings(target, install, request.host, request.ports)
    if install is not None:
        surroundings = dataclasses.replace(surroundings, cores=available_cores(), memory=usable_memory())
        if bundle is not None and request.tuned and (record := load_tuned(bundle)):
            request = dataclasses.replace(request, stages=with_tuned(request.stages, record))
        if bundle is not None and request.stages.backend == "auto":
            surroundings = dataclasses.replace(surroundings, speeds=load_speeds(bundle))
    with open_location(request.repository) as location:
        repository, checks = _fill(bundle, location, request, surroundings)
        formats = running_formats(Journal(location.root))
    repository = dataclasses.replace(repository, address=location.address)
    say(
        f"repository: {request.repository}, version {repository.version}, backend {', '.join(repository.backends)}, "
        f"models {', '.join(repository.models)}"
    )
    server = None
    if request.launch:
        server = TritonServer(
            repository,
            install=install,
            host=request.host,
            http_port=request.http_port,
            grpc_port=request.grpc_port,
            metrics_port=request.metrics_port or None,
            log_file=request.log,
            startup_timeout=request.startup_timeout,
            threads=request.threads,
            shared_memory=request.shared_memory,
            traces=request.traces,
        )
        _warn(request, install)
        say(f"starting Triton ({install.origin if install else 'found'}), log {server.log_file}")
    return Served(repository, location.name, formats, checks, server, _is_launchable(repository, request.triton))


def _is_launchable(repository: Repository, triton: Path | None) -> bool:
    if repository.backends == ("python",):
        return True
    install = local_install(triton)
    return install is not None and all(install.has_backend(backend) for backend in repository.backends)


def _note_golden(plan: ServingPlan, journal: Journal, version: int) -> None:
    """Keeps the bundle's golden clips beside the version, for the check when a server starts."""
    if GOLDEN in plan.bundle.manifest.documents:
        golden = golden_clips_of(plan.bundle, plan.extractor.format, plan.classifier.format)
        journal.note_golden(version, golden)


def _warn(request: ServeRequest, install: TritonInstall | None) -> None:
    """Says what is open to whom, where that is more than this machine's gRPC."""
    if install is None or not install.has_known_holes:
        return
    what = f"Triton {install.version} has known security holes; a client that reaches it can end it"
    if request.http_port:
        say(f"security: {what} with one request over HTTP; leave --http out, or start a newer server with --triton")
    if not is_loopback(resolve_host(request.host)):
        say(
            f"security: {what}, and --host {request.host} opens it to other machines; put a gateway in front, or start "
            "a newer server with --triton"
        )


def _fill(
    bundle: Bundle | None, location: Location, request: ServeRequest, surroundings: Surroundings
) -> tuple[Repository, tuple[str, ...]]:
    def stays() -> bool:
        return bundle is None or keeps_deployed(location.root, location.name, bundle, allowed=request.keep_deployed)

    if bundle is not None and not stays():
        plan = plan_serving(bundle, location.root, request.stages, surroundings)
        checks = check_plan(plan, location.root, surroundings, lambda check: say(f"preflight: {check}"))
        plan.configs()  # options that do not fit are refused before the lock makes a folder
        with Journal(location.root, location.name).exclusive(LOCK_SECONDS):
            if not stays():  # a deployment may have ended meanwhile
                repository = write_plan(plan, location.root)
                _note_golden(plan, Journal(location.root), repository.version)
                return repository, tuple(map(str, checks))
    say(f"repository: {location.name} is served as it stands")
    if request.threads is not None:
        try:
            refuse_threads(location.root, location.name, request.threads)
        except RepositoryError as error:
            if bundle is None:
                raise
            say(f"repository: {error}")  # a container that starts again with its first command has to come up
    return standing_repository(location.root, location.name), ()
