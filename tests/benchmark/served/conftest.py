from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from testing.tiny_bundle import make_tiny_bundle
from vdeploy.artifacts.bundle import Bundle
from vdeploy.core.files import cache_dir
from vdeploy.triton.repository.writer import write_repository
from vdeploy.triton.server.install import TritonInstall
from vdeploy.triton.server.ports import free_ports
from vdeploy.triton.server.server import TritonServer

PERF_ANALYZER = "tritonclient==2.51.0"
PERF_ANALYZER_MEMBER = "tritonclient-2.51.0.data/data/bin/perf_analyzer"


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_tiny_bundle(tmp_path_factory.mktemp("served") / "bundle")


def server_of(bundle: Bundle, install: TritonInstall, folder: Path, *, shared_memory: bool = True) -> TritonServer:
    (grpc,) = free_ports(1)
    repository = write_repository(bundle, folder / "triton_repo")
    log = folder / "server.log"
    return TritonServer(
        repository,
        install=install,
        grpc_port=grpc,
        metrics_port=None,
        log_file=log,
        shared_memory=shared_memory,
    )


@pytest.fixture(scope="session")
def server(install: TritonInstall, bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    """A server that no test may break."""
    with server_of(bundle, install, tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(scope="session")
def perf_analyzer(install: TritonInstall, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """NVIDIA's program, out of the wheel that is kept in the cache."""
    wheels = cache_dir() / "perf_analyzer"
    if not list(wheels.glob("*.whl")):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        done = subprocess.run(
            [*command, "--dest", str(wheels), PERF_ANALYZER], capture_output=True, text=True, timeout=120, check=False
        )
        if done.returncode:
            pytest.skip(f"perf_analyzer cannot be had: {done.stderr.strip().splitlines()[-1:]}")
    with zipfile.ZipFile(next(wheels.glob("*.whl"))) as archive:
        file = Path(archive.extract(PERF_ANALYZER_MEMBER, tmp_path_factory.mktemp("perf_analyzer")))
    file.chmod(0o755)
    return file
