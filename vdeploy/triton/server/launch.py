"""The command line, environment and backends of `tritonserver`, and the cleanup after its process."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import secrets
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from vdeploy.core.errors import ServerError
from vdeploy.triton.client.control_routes import CONTROL_KEY_VARIABLE, KEY_NAME
from vdeploy.triton.client.server_log import log_size
from vdeploy.triton.names import THREADS_VARIABLE
from vdeploy.triton.repository.path_rules import refuse_unusable_path
from vdeploy.triton.repository.repository import Repository
from vdeploy.triton.server.exits import ended
from vdeploy.triton.server.install import TritonInstall
from vdeploy.triton.server.ports import grpc_address, http_address
from vdeploy.triton.server.process_group import end_group, new_region_prefix, spawn
from vdeploy.triton.server.python_backend import assemble_backends, library_path
from vdeploy.triton.server.reaper import remove_regions

__all__ = ["Launch"]

EXIT_TIMEOUT_SECONDS = 2
"""How long Triton may wait for requests, and for idle connections, which it cannot distinguish from them."""
STOP_GRACE_SECONDS = EXIT_TIMEOUT_SECONDS + 3

DOUBT_SECONDS = 5.0
"""How long a server that is about to end may go on answering after it has logged why."""

VISIBLE_KEY_VARIABLE = "VDEPLOY_VISIBLE_KEY"
"""Environment variable that, as `1`, allows the key to stand in the process list where it cannot be hidden."""

_RESTRICTED = ("model-repository", "trace", "logging")
"""Triton's interfaces that change the server; inference, health, metadata and statistics stay open."""

_TRACES = (
    *("mode=opentelemetry", "opentelemetry,resource=service.name=triton", "level=TIMESTAMPS", "count=-1"),
    "rate=1000000000",
)
"""Requests whose clients trace them are traced, and of the others 1 in 10^9, which leaves the probes out."""

_SHARED_MEMORY = "shared-memory"
"""The interface by which a client has tensors read from, and written to, memory of this machine."""


@dataclasses.dataclass
class Launch:
    """One server program on one repository, of which one process at a time runs.

    Attributes:
        repository: What it serves.
        host: Address to listen on, a number.
        ports: By what they are for: `http`, `grpc`, `metrics`; 0 turns one off.
        log_file: Takes its output.
        threads: Cores for the extractor; `None` for all that this process may use.
        server_id: Name in its metadata.
        shared_memory: Whether clients may register shared memory.
        traces: Where a collector takes traces of requests; empty for nowhere.
        key: The key of its restricted interfaces, drawn for each process, unless the environment holds one.
        process: The running one; `None` before the first and after `end`.
    """

    repository: Repository
    host: str
    ports: Mapping[str, int]
    log_file: Path
    threads: int | None
    server_id: str
    shared_memory: bool = False
    traces: str = ""
    key: str = dataclasses.field(default="", init=False)
    process: subprocess.Popen[bytes] | None = dataclasses.field(default=None, init=False)
    _well_until: int = dataclasses.field(default=0, init=False)
    _seen_well: tuple[float, int] = dataclasses.field(default=(0.0, 0), init=False)
    _regions: str = dataclasses.field(default_factory=new_region_prefix, init=False)
    _cleanup: contextlib.ExitStack = dataclasses.field(default_factory=contextlib.ExitStack, init=False)

    def begin(self, install: TritonInstall) -> None:
        """Starts a process.

        Args:
            install: The program; a complete one is taken as it is.

        Raises:
            ServerError: It lacks a backend, or cannot be started.
            RepositoryError: The Python backend cannot take the path of the temporary folder.
            MissingExtraError: The Python backend's packages are not installed.
        """
        try:
            scratch = self._scratch_for(install)
            backends, environment = self._prepare(install, scratch)
            self._well_until, self._seen_well = 0, (time.monotonic(), 0)
            self.key = os.environ.get(CONTROL_KEY_VARIABLE) or secrets.token_urlsafe(24)
            command, restrictions = self._command(install, backends), self._restrictions()
            is_visible = os.environ.get(VISIBLE_KEY_VARIABLE) == "1"
            self.process = spawn(
                [*command, *restrictions] if is_visible else command,
                hidden=() if is_visible else restrictions,
                environment=environment,
                log=self.log_file,
                region_prefix=self._regions,
                scratch=scratch,
            )
        except OSError as error:
            raise ServerError(
                f"the Triton server cannot be started ({error})", f"make room, or make {self.log_file} writable"
            ) from error

    def running(self) -> subprocess.Popen[bytes]:
        """The process.

        Raises:
            ServerError: There is none, or it has ended.
        """
        if self.process is None:
            raise ServerError("the Triton server is not running", "start it first")
        if self.process.poll() is not None:
            raise self.ended(self.process)
        return self.process

    @property
    def has_crashed(self) -> bool:
        """Whether a signal has ended the process."""
        return self.process is not None and (self.process.poll() or 0) < 0

    def begin_again(self, install: TritonInstall) -> None:
        """Replaces a process that has crashed, whose log is kept as `LOG.crashed`; see `begin`."""
        self.end()
        with contextlib.suppress(OSError):
            self.log_file.replace(self.log_file.with_name(f"{self.log_file.name}.crashed"))
        self.begin(install)

    def note_health(self) -> None:
        """Notes that all is well: what the log said a while ago is no reason of an end to come."""
        noted, size = self._seen_well
        if time.monotonic() - noted >= DOUBT_SECONDS:
            self._well_until, self._seen_well = size, (time.monotonic(), log_size(self.log_file))

    def ended(self, process: subprocess.Popen[bytes]) -> ServerError:
        """The error of its process that has ended."""
        return ended(process, self.log_file, self._well_until)

    def end(self) -> None:
        """Ends the process, if there is one, and removes whatever it left."""
        try:
            if self.process is not None:
                end_group(self.process, STOP_GRACE_SECONDS)
                self.process = None
        finally:
            remove_regions(self._regions)
            self._cleanup.close()

    def _scratch_for(self, install: TritonInstall) -> Path | None:
        """A temporary folder, where the Python backend has to be put together for this interpreter."""
        if "python" not in self.repository.backends or not install.stubs:
            return None
        folder = Path(self._cleanup.enter_context(tempfile.TemporaryDirectory(prefix="vdeploy-triton-")))
        refuse_unusable_path(folder, "set TMPDIR to another folder")
        return folder

    def _prepare(self, install: TritonInstall, scratch: Path | None) -> tuple[Path, dict[str, str]]:
        """The folder of backends and the environment."""
        for backend in self.repository.backends:
            if not install.has_backend(backend):
                raise ServerError(
                    f"the Triton server of {install.origin} has no {backend} backend",
                    "choose another with --backend, or another server",
                )
        environment = {name: value for name, value in os.environ.items() if name != CONTROL_KEY_VARIABLE}
        environment["PYTHONDONTWRITEBYTECODE"] = "1"  # a version holds what was written there, and nothing else
        if self.threads is not None:
            environment[THREADS_VARIABLE] = str(self.threads)
        if scratch is None:
            found = {"LD_LIBRARY_PATH": library_path(install)} if install.stubs else {}
            return install.backends, environment | found
        others = [backend for backend in self.repository.backends if backend != "python"]
        return scratch / "backends", environment | assemble_backends(
            install, scratch, self.repository.python_runtimes, others
        )

    def _command(self, install: TritonInstall, backends: Path) -> list[str]:
        command = [
            str(install.binary),
            f"--model-repository={self.repository.address or self.repository.root.resolve()}",
            f"--backend-directory={backends}",
            "--model-control-mode=explicit",
            *(f"--load-model={model}" for model in self.repository.current_models),
            "--disable-auto-complete-config",
            f"--exit-timeout-secs={EXIT_TIMEOUT_SECONDS}",
            f"--backend-config=python,shm-region-prefix-name={self._regions}",
            f"--id={self.server_id}",
        ]
        if self.repository.takes_turns:
            command.append("--rate-limit=execution_count")
        for name, port in self.ports.items():
            if port:
                address = grpc_address(self.host) if name == "grpc" else http_address(self.host)
                command += [f"--{name}-address={address}", f"--{name}-port={port}"]
            else:
                command.append(f"--allow-{name}=false")
        if self.ports["metrics"]:
            command.append("--metrics-config=summary_latencies=true")
        if self.traces:
            command += [f"--trace-config={setting}" for setting in (*_TRACES, f"opentelemetry,url={self.traces}")]
        if not Path("/dev/nvidiactl").exists():
            command.append("--allow-gpu-metrics=false")
        return command

    def _restrictions(self) -> list[str]:
        """Options that keep all who do not know the key away from what changes the server."""
        interfaces = ",".join((*_RESTRICTED, *(() if self.shared_memory else (_SHARED_MEMORY,))))
        options = [f"--grpc-restricted-protocol={interfaces}:{KEY_NAME}={self.key}"]
        if self.ports["http"]:
            options.append(f"--http-restricted-api={interfaces}:{KEY_NAME}={self.key}")
        return options
