"""The servers that a benchmark measures: a running one, or one that is started for a format."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from vdeploy.artifacts.bundle import Bundle
from vdeploy.benchmark.measure.candidates import Candidate
from vdeploy.core.errors import ClientError
from vdeploy.core.files import cache_dir
from vdeploy.triton.client.client import TritonScorer
from vdeploy.triton.repository.writer import write_repository
from vdeploy.triton.server.install import TritonInstall
from vdeploy.triton.server.ports import free_ports
from vdeploy.triton.server.process_group import is_stale_region, new_region_prefix
from vdeploy.triton.server.server import TritonServer

__all__ = ["Target", "check_server", "start_server"]


@dataclasses.dataclass(frozen=True)
class Target:
    """A server.

    Attributes:
        url: ``HOST:PORT`` of its gRPC interface.
        candidate: The format that it serves; ``None`` where that is not known.
    """

    url: str
    candidate: Candidate | None = None

    @property
    def format(self) -> str:
        """Name of the format that it serves."""
        return self.candidate.format if self.candidate else "served"

    @property
    def name(self) -> str:
        """Name of its rows."""
        return f"Triton, {self.candidate.format}" if self.candidate else "Triton"


def check_server(url: str, bundle: Bundle) -> None:
    """Checks that a server serves a bundle.

    Args:
        url: ``HOST:PORT`` of the server.
        bundle: The bundle.

    Raises:
        ClientError: The server does not answer, or serves another bundle.
    """
    with TritonScorer(url) as served:
        if served.bundle_digest != bundle.manifest.digest:
            raise ClientError(
                f"{url} serves another bundle than {bundle.root}: {served.bundle_digest[:12]} of the run {served.run}, "
                f"not {bundle.manifest.digest[:12]} of {bundle.manifest.run}",
                "name the bundle that it serves, or start it on this bundle",
            )


@contextlib.contextmanager
def start_server(bundle: Bundle, candidate: Candidate, install: TritonInstall, threads: int) -> Iterator[Target]:
    """Serves a format on this machine while a ``with`` block lasts.

    Args:
        bundle: The bundle.
        candidate: The format.
        install: The Triton to start.
        threads: Threads of the extractor, as in process.

    Raises:
        RepositoryError: Triton cannot serve the format.
        ServerError: The server cannot be started.
    """
    _remove_stale_folders()
    with tempfile.TemporaryDirectory(prefix=f"{new_region_prefix()}served-") as folder:
        root, log = Path(folder) / "triton_repo", cache_dir() / "triton" / "logs" / f"benchmark-{candidate.format}.log"
        repository = write_repository(
            bundle, root, backend="auto", install=install, extractor=candidate.format, classifier=candidate.format
        )
        (grpc,) = free_ports(1)
        with TritonServer(
            repository,
            install=install,
            grpc_port=grpc,
            metrics_port=None,
            log_file=log,
            threads=threads,
            shared_memory=True,
        ) as server:
            yield Target(server.url, candidate)


def _remove_stale_folders() -> None:
    """Removes the repositories of benchmarks that were killed."""
    for folder in Path(tempfile.gettempdir()).glob("vdeploy-*-served-*"):
        if is_stale_region(folder.name):
            shutil.rmtree(folder, ignore_errors=True)
