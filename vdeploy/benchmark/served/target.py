"""The servers that a benchmark measures: one that runs already, or one of one's own for each format."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from vdeploy.artifacts.bundle import Bundle
from vdeploy.benchmark.measure.candidates import Way
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
        way: What it runs; ``None`` where it does not tell.
    """

    url: str
    way: Way | None = None

    @property
    def format(self) -> str:
        """The format that it runs."""
        return self.way.format if self.way else "served"

    @property
    def name(self) -> str:
        """What its rows are called."""
        return f"Triton, {self.way.format}" if self.way else "Triton"


def check_server(url: str, bundle: Bundle) -> None:
    """Looks whether a server serves clips such as a bundle takes.

    Raises:
        ClientError: It does not answer, or serves something else.
    """
    with TritonScorer(url) as served:
        if served.spec != bundle.manifest.clip_spec:
            raise ClientError(
                f"{url} serves clips of {served.spec}, {bundle.root} takes {bundle.manifest.clip_spec}",
                "start it on this bundle",
            )


@contextlib.contextmanager
def start_server(bundle: Bundle, way: Way, install: TritonInstall, threads: int) -> Iterator[Target]:
    """Serves a format on this machine while a ``with`` block lasts.

    Args:
        bundle: The bundle.
        way: Says which format.
        install: The server's program.
        threads: Threads of the extractor, as in process.

    Raises:
        RepositoryError: Triton cannot serve the format.
        ServerError: The server cannot be started.
    """
    _remove_stale_folders()
    with tempfile.TemporaryDirectory(prefix=f"{new_region_prefix()}served-") as folder:
        root, log = Path(folder) / "triton_repo", cache_dir() / "triton" / "logs" / f"benchmark-{way.format}.log"
        repository = write_repository(
            bundle, root, backend="auto", install=install, extractor=way.format, classifier=way.format
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
            yield Target(server.url, way)


def _remove_stale_folders() -> None:
    """Removes the repositories of benchmarks that were killed."""
    for folder in Path(tempfile.gettempdir()).glob("vdeploy-*-served-*"):
        if is_stale_region(folder.name):
            shutil.rmtree(folder, ignore_errors=True)
