from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from testing.tiny_bundle import make_tiny_bundle
from testing.waiting import eventually
from vdeploy.artifacts.bundle import Bundle
from vdeploy.triton.names import DEPLOYMENTS
from vdeploy.triton.repository.file_hashes import HASHES
from vdeploy.triton.repository.repository import Repository
from vdeploy.triton.repository.writer import write_repository
from vdeploy.triton.server.install import TritonInstall
from vdeploy.triton.server.ports import free_ports
from vdeploy.triton.server.server import TritonServer


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_tiny_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture
def repository(bundle: Bundle, tmp_path: Path) -> Repository:
    return write_repository(bundle, tmp_path / "triton_repo")


@dataclasses.dataclass
class Ports:
    http: int
    grpc: int
    metrics: int

    def as_arguments(self) -> dict[str, int]:
        return {"http_port": self.http, "grpc_port": self.grpc, "metrics_port": self.metrics}


def own_ports() -> Ports:
    return Ports(*free_ports(3))


@pytest.fixture
def ports() -> Ports:
    return own_ports()


@pytest.fixture(scope="session")
def server(install: TritonInstall, bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    """A server that no test may break."""
    folder = tmp_path_factory.mktemp("server")
    repository = write_repository(bundle, folder / "triton_repo")
    with TritonServer(
        repository, install=install, log_file=folder / "server.log", **own_ports().as_arguments()
    ) as running:
        yield running


def processes_with(text: str) -> list[int]:
    """Ids of the living processes that have `text` in their command lines, this one aside."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if text in (entry / "cmdline").read_bytes().decode(errors="replace") and int(entry.name) != os.getpid():
                found.append(int(entry.name))
    return found


def program_of(server: TritonServer, root: Path) -> int:
    """Id of the process of `tritonserver` itself, not of its guardian."""
    (program,) = {*processes_with(f"--model-repository={root}")} - {server.pid}
    return program


def forget_hashes(repository: Repository) -> None:
    """Makes the repository one of vdeploy 0.1, which noted no hashes."""
    (repository.root / DEPLOYMENTS / str(repository.version) / HASHES).unlink()


def kill_stub(repository: Repository, model: str, number: signal.Signals = signal.SIGKILL) -> int:
    """Sends a signal to the process of a model and returns its id."""

    def stubs() -> list[int]:
        return [
            process
            for process in processes_with(f"{repository.root}/{model}/")
            if b"stub" in Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")[0]
        ]

    assert eventually(lambda: len(stubs()) == 1)
    (pid,) = stubs()
    os.kill(pid, number)
    return pid
