"""A local Triton server under supervision: checked before the start, watched while it runs, cleaned up after."""

from __future__ import annotations

import subprocess
import threading
import time
from pathlib import Path

from vdeploy.core.errors import ServerError
from vdeploy.core.files import cache_dir
from vdeploy.core.progress import say
from vdeploy.triton.names import DEFAULT_GRPC_PORT, DEFAULT_METRICS_PORT
from vdeploy.triton.repository.repository import Repository
from vdeploy.triton.server.backoff import Backoff
from vdeploy.triton.server.control_service import ControlService, LocalRoute
from vdeploy.triton.server.exits import was_killed
from vdeploy.triton.server.health import Health, UnresponsiveError
from vdeploy.triton.server.install import TritonInstall, find_install
from vdeploy.triton.server.launch import Launch
from vdeploy.triton.server.ports import check_ports, grpc_address, local_address, resolve_host
from vdeploy.triton.server.process_group import remove_stale_regions
from vdeploy.triton.server.readiness import wait_until_ready
from vdeploy.triton.server.version_checks import check_files

__all__ = ["TritonServer"]

POLL_SECONDS = 0.05

PATIENCE_SECONDS = 30.0
"""How long a server that runs may not answer before it is killed and started again; it may only be stopped."""

_UNHEALTHY = "is not healthy"
"""What Triton says of a Python model that is too slow, or has ended."""


class TritonServer:
    """Runs `tritonserver` on a repository while a `with` block lasts.

    The block begins when the ensemble has answered an inference, and after it no process, no shared memory and no
    temporary file is left, however this process ends.

    Args:
        repository: What to serve.
        install: The server's program; `None` looks for one, and fetches it if need be.
        host: Address to listen on, or a name that has one.
        http_port: Port of Triton's HTTP interface; `None` turns it off. Everything of vdeploy uses gRPC, and a request
            over HTTP can end the Triton of the wheel (CVE-2025-23310).
        grpc_port: Port of its gRPC interface.
        metrics_port: Port of its Prometheus metrics; 0 or `None` turns them off.
        log_file: Takes the server's output; `None` is a file in the cache, named for the gRPC port. That of a server
            which crashed is kept beside it, as `LOG.crashed`.
        startup_timeout: Seconds until the first answer.
        threads: Cores for the extractor; `None` for all that this process may use.
        shared_memory: Whether clients may register shared memory; every user of this machine is a client.
        traces: Where a collector takes traces of requests; empty for nowhere.

    Raises:
        ServerError: The host's name has no address.

    Attributes:
        url: `HOST:PORT` for gRPC clients on this machine.
        http_port: Port of the HTTP interface, or `None`.
        log_file: The server's output.
        restarts: How often `watch` has started it again.

    Example:
        >>> with TritonServer(write_repository(bundle, Path("triton_repo"))) as server:  # doctest: +SKIP
        ...     server.watch()
    """

    def __init__(
        self,
        repository: Repository,
        *,
        install: TritonInstall | None = None,
        host: str = "127.0.0.1",
        http_port: int | None = None,
        grpc_port: int = DEFAULT_GRPC_PORT,
        metrics_port: int | None = DEFAULT_METRICS_PORT,
        log_file: Path | None = None,
        startup_timeout: float = 180.0,
        threads: int | None = None,
        shared_memory: bool = False,
        traces: str = "",
    ) -> None:
        self._install = install
        self._startup_timeout = startup_timeout
        address = resolve_host(host)
        self.http_port = http_port
        self.url = f"{grpc_address(local_address(address))}:{grpc_port}"
        self.log_file = log_file or cache_dir() / "triton" / "logs" / f"{grpc_port}.log"
        route = LocalRoute(self.url, lambda: self._launch.key)
        self._control = ControlService(route)
        self._health = Health(repository, self.url, self.log_file, startup_timeout, route)
        ports = {"http": http_port or 0, "grpc": grpc_port, "metrics": metrics_port or 0}
        self._launch = Launch(
            repository, address, ports, self.log_file, threads, self._control.server_id, shared_memory, traces
        )
        self._changing = threading.Lock()
        self._stopping = threading.Event()
        self._backoff = Backoff()
        self.restarts = 0

    @property
    def pid(self) -> int:
        """Id of the running server's process group, and of its leader.

        Raises:
            ServerError: It is not running.
        """
        return self._launch.running().pid

    def __enter__(self) -> TritonServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Starts the server and waits for the ensemble's first answer.

        A Triton that ends on the way by a signal, or because a Python model did not answer its check in a second, is
        started once more: on a busy machine, both happen now and then. The signal follows an exception of Boost.

        Raises:
            RepositoryError: A file of the repository is missing, or the Python backend cannot take a path.
            ServerError: There is no server, a port is taken, or it did not become ready; nothing is left running then.
            MissingExtraError: The Python backend's packages are not installed.
        """
        self._launch.repository.check()
        check_files(self._launch.repository)
        self._install = self._install or find_install()
        check_ports(self._launch.host, self._launch.ports)
        remove_stale_regions()
        try:
            self._stopping.clear()
            self._launch.begin(self._install)
            try:
                wait_until_ready(self._launch, self._health, self._startup_timeout)
            except ServerError as error:
                if not (self._launch.has_crashed or _UNHEALTHY in error.message):
                    raise
                say(f"{error.message}; it is started again")
                self._start_again()
                wait_until_ready(self._launch, self._health, self._startup_timeout)
            self._control.start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Ends the server and removes whatever it left; does nothing when it is not running."""
        self._stopping.set()
        self._control.stop()
        with self._changing:
            self._launch.end()

    def watch(self, *, interval_seconds: float = 10.0) -> None:
        """Keeps the server alive until `stop` is called from elsewhere.

        A stage that has died is loaded again. A server that a signal has ended, such as a crash or the kernel for want
        of memory, is started again on what the repository says then; one that runs but does not answer is killed
        first. Where it crashes again and again, the pauses before the next start grow.

        Args:
            interval_seconds: Time between two checks.

        Raises:
            ServerError: The server ended otherwise, or a stage is dead and loading it again did not help.
        """
        while not self._stopping.is_set():
            process = self._launch.process
            try:
                self._watch_once(interval_seconds)
            except UnresponsiveError as error:
                self._wait_or_restart(error)
            except ServerError:
                if self._stopping.is_set():
                    return
                if process is None or not was_killed(process):
                    raise
                self._restart(self._launch.ended(process))

    def heal(self) -> tuple[str, ...]:
        """Loads every stage again that is dead; see `Health.heal`.

        Returns:
            The stages that were dead and answer again.

        Raises:
            ServerError: The server has ended or does not answer, or a stage stays dead.
        """
        process = self._launch.running()
        try:
            healed = self._health.heal()
        except ServerError as error:
            if process.poll() is not None:
                raise self._launch.ended(process) from error
            raise
        self._launch.note_health()
        return healed

    def _watch_once(self, interval_seconds: float) -> None:
        process = self._launch.running()
        try:
            process.wait(interval_seconds)
        except subprocess.TimeoutExpired:
            for model in self.heal():
                say(f"Triton's {model} had died and was loaded again")
        else:
            raise self._launch.ended(process)

    def _wait_or_restart(self, silence: UnresponsiveError) -> None:
        """Gives a server that does not answer some more time: it may only be stopped, or short of processors."""
        started = time.monotonic()
        while time.monotonic() - started < PATIENCE_SECONDS and not self._stopping.wait(POLL_SECONDS):
            if self._health.is_live(1.0):
                say(f"Triton answers again, after {time.monotonic() - started:.0f} s more")
                return
        if not self._stopping.is_set():
            self._restart(silence)

    def _restart(self, crash: ServerError) -> None:
        """Starts the server again, as often as it takes."""
        while True:
            pause = self._backoff.next_pause(time.monotonic())
            say(f"{crash.message}; it is started again{f' in {pause:g} s' if pause else ''}")
            self._stopping.wait(pause)
            try:
                if not self._start_again():
                    return
                wait_until_ready(self._launch, self._health, self._startup_timeout)
            except ServerError as error:
                if self._stopping.is_set():
                    return
                crash = error
            else:
                self.restarts += 1
                say("Triton answers again")
                return

    def _start_again(self) -> bool:
        """Replaces the process; `False` where `stop` was called meanwhile."""
        with self._changing:
            if self._stopping.is_set() or self._install is None:
                return False
            self._launch.begin_again(self._install)
            return True
