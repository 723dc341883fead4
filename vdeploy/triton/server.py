"""A local Triton server under supervision: checked before, watched during, and cleaned up after."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

from training.files import cache_dir
from training.progress import say
from vdeploy.errors import ServerError
from vdeploy.triton.control_key import ensure_control_key, server_options
from vdeploy.triton.guardian import remove_regions
from vdeploy.triton.health import Health
from vdeploy.triton.install import TritonInstall, find_install
from vdeploy.triton.names import DEFAULT_GRPC_PORT, DEFAULT_HTTP_PORT, DEFAULT_METRICS_PORT, THREADS_VARIABLE
from vdeploy.triton.paths import refuse_unusable_path
from vdeploy.triton.ports import check_ports
from vdeploy.triton.processes import end_group, new_region_prefix, remove_stale_regions, spawn
from vdeploy.triton.python_backend import assemble_python_backend
from vdeploy.triton.repository import Repository
from vdeploy.triton.server_log import reason_in

__all__ = ["TritonServer"]

EXIT_TIMEOUT_SECONDS = 2
"""How long Triton may wait for requests, and for idle connections, which it cannot tell apart from them."""
STOP_GRACE_SECONDS = EXIT_TIMEOUT_SECONDS + 3
POLL_SECONDS = 0.05

_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  compared with, not bound to


class TritonServer:
    """Runs `tritonserver` on a repository while a `with` block lasts.

    The block begins when the ensemble has answered an inference, and after it no process, no shared memory and no
    temporary file is left, however this process ends.

    Args:
        repository: What to serve.
        install: The server's program; `None` looks for one, and fetches it if need be.
        host: Address to listen on.
        http_port: Port of Triton's HTTP interface.
        grpc_port: Port of its gRPC interface.
        metrics_port: Port of its Prometheus metrics; 0 or `None` turns them off.
        log_file: Takes the server's output; `None` is a file in the cache, named for the HTTP port.
        startup_timeout: Seconds until the first answer.
        threads: Cores for the extractor; `None` for all that this process may use.

    Attributes:
        url: `HOST:PORT` for gRPC clients on this machine.
        http_port: Port of the HTTP interface.
        log_file: The server's output.

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
        http_port: int = DEFAULT_HTTP_PORT,
        grpc_port: int = DEFAULT_GRPC_PORT,
        metrics_port: int | None = DEFAULT_METRICS_PORT,
        log_file: Path | None = None,
        startup_timeout: float = 60.0,
        threads: int | None = None,
    ) -> None:
        self._repository = repository
        self._install = install
        self._host = host
        self._ports = {"http": http_port, "grpc": grpc_port, "metrics": metrics_port or 0}
        self.http_port = http_port
        self._startup_timeout = startup_timeout
        self._threads = threads
        self._near = _WILDCARDS.get(host, host)
        self.url = f"[{self._near}]:{grpc_port}" if ":" in self._near else f"{self._near}:{grpc_port}"
        self.log_file = log_file or cache_dir() / "triton" / "logs" / f"{http_port}.log"
        self._key = ensure_control_key(repository.root)
        self._health = Health(repository, self.url, self.log_file, startup_timeout, self._key)
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = False
        self._regions = new_region_prefix()
        self._cleanup = contextlib.ExitStack()

    @property
    def pid(self) -> int:
        """Id of the running server's process group, and of its leader.

        Raises:
            ServerError: It is not running.
        """
        return self._running().pid

    def __enter__(self) -> TritonServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Starts the server and waits for the ensemble's first answer.

        Raises:
            RepositoryError: A file of the repository is missing, or the Python backend cannot take a path.
            ServerError: There is no server, a port is taken, or it did not become ready; nothing is left running then.
            MissingExtraError: The Python backend's packages are not installed.
        """
        self._repository.check()
        install = self._install or find_install()
        check_ports(self._host, self._ports)
        remove_stale_regions()
        try:
            self._stopping = False
            self._process = self._spawn(install)
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Ends the server and removes whatever it left; does nothing when it is not running."""
        self._stopping = True
        try:
            if self._process is not None:
                end_group(self._process, STOP_GRACE_SECONDS)
                self._process = None
        finally:
            remove_regions(self._regions)
            self._cleanup.close()

    def watch(self, *, interval_seconds: float = 10.0) -> None:
        """Keeps the server alive until `stop` is called from elsewhere.

        Args:
            interval_seconds: Time between two checks.

        Raises:
            ServerError: The server ended, or a stage is dead and loading it again did not help.
        """
        process = self._running()
        while not self._stopping:
            try:
                process.wait(interval_seconds)
            except subprocess.TimeoutExpired:
                self._heal_aloud()
            else:
                if not self._stopping:
                    raise self._ended(process)

    def heal(self) -> tuple[str, ...]:
        """Loads every stage again that is dead; see `Health.heal`.

        Returns:
            The stages that were dead and answer again.

        Raises:
            ServerError: The server has ended or does not answer, or a stage stays dead.
        """
        process = self._running()
        try:
            return self._health.heal()
        except ServerError as error:
            if process.poll() is not None:
                raise self._ended(process) from error
            raise

    def _heal_aloud(self) -> None:
        try:
            for model in self.heal():
                say(f"Triton's {model} had died and was loaded again")
        except ServerError:
            if not self._stopping:
                raise

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise ServerError("the Triton server is not running", "start it first")
        if self._process.poll() is not None:
            raise self._ended(self._process)
        return self._process

    def _spawn(self, install: TritonInstall) -> subprocess.Popen[bytes]:
        try:
            backends, environment = self._prepare(install)
            return spawn(
                self._command(install, backends),
                environment=environment,
                log=self.log_file,
                region_prefix=self._regions,
            )
        except OSError as error:
            raise ServerError(
                f"the Triton server cannot be started ({error})", f"make room, or make {self.log_file} writable"
            ) from error

    def _prepare(self, install: TritonInstall) -> tuple[Path, dict[str, str]]:
        """The folder of backends and the environment; a complete install is taken as it is."""
        backends = self._repository.backends
        for backend in backends:
            if not install.has_backend(backend):
                raise ServerError(
                    f"the Triton server of {install.origin} has no {backend} backend",
                    "choose another with --backend, or another server",
                )
        environment = dict(os.environ)
        if self._threads is not None:
            environment[THREADS_VARIABLE] = str(self._threads)
        if "python" not in backends or not install.stubs:
            return install.backends, environment
        folder = Path(self._cleanup.enter_context(tempfile.TemporaryDirectory(prefix="vdeploy-triton-")))
        refuse_unusable_path(folder, "set TMPDIR to another folder")
        return folder / "backends", environment | assemble_python_backend(
            install, folder, self._repository.python_runtimes
        )

    def _command(self, install: TritonInstall, backends: Path) -> list[str]:
        command = [
            str(install.binary),
            f"--model-repository={self._repository.address or self._repository.root.resolve()}",
            f"--backend-directory={backends}",
            "--model-control-mode=explicit",
            *(f"--load-model={model}" for model in self._repository.models),
            "--disable-auto-complete-config",
            f"--exit-timeout-secs={EXIT_TIMEOUT_SECONDS}",
            f"--backend-config=python,shm-region-prefix-name={self._regions}",
            *server_options(self._key, self._host),
        ]
        if self._repository.takes_turns:
            command.append("--rate-limit=execution_count")
        for name, port in self._ports.items():
            if port:
                command += [f"--{name}-address={self._host}", f"--{name}-port={port}"]
            else:
                command.append(f"--allow-{name}=false")
        if self._ports["metrics"]:
            command.append("--metrics-config=summary_latencies=true")
        if not Path("/dev/nvidiactl").exists():
            command.append("--allow-gpu-metrics=false")
        return command

    def _wait_until_ready(self) -> None:
        process = self._running()
        deadline = time.monotonic() + self._startup_timeout
        while not self._listens():
            if process.poll() is not None:
                raise self._ended(process)
            if time.monotonic() > deadline:
                raise self._late()
            time.sleep(POLL_SECONDS)
        try:
            self._health.check_ensemble(max(1.0, deadline - time.monotonic()))
        except TimeoutError as error:
            raise self._late() from error

    def _listens(self) -> bool:
        """Whether all of its ports answer; gRPC's is the first of them."""
        with contextlib.suppress(OSError):
            for port in filter(None, self._ports.values()):
                socket.create_connection((self._near, port), timeout=1).close()
            return True
        return False

    def _ended(self, process: subprocess.Popen[bytes]) -> ServerError:
        reason = reason_in(self.log_file) or "it told no reason"
        return ServerError(f"Triton ended with exit code {process.poll()}: {reason}", f"its log is {self.log_file}")

    def _late(self) -> ServerError:
        reason = reason_in(self.log_file) or "it told no reason"
        return ServerError(
            f"Triton was not ready after {self._startup_timeout:g} s: {reason}", f"its log is {self.log_file}"
        )
