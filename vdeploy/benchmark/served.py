"""A server in a benchmark: that it serves the bundle, and the rows in which it is called."""

from __future__ import annotations

from pathlib import Path

from vdeploy.benchmark.job import Job
from vdeploy.benchmark.record import Row, What
from vdeploy.benchmark.rounds import Contender
from vdeploy.bundle import Bundle
from vdeploy.errors import ClientError

__all__ = ["SERVED_WHATS", "check_server", "served_contender", "served_row"]

SERVED_WHATS: tuple[What, ...] = ("pipeline", "video")
"""What a server does; its stages are not called by themselves."""


def check_server(url: str, bundle: Bundle) -> None:
    """Looks whether a server serves clips such as a bundle takes.

    Raises:
        ClientError: It does not answer, or serves something else.
    """
    from vdeploy.triton.client import TritonScorer  # noqa: PLC0415  only with a server

    with TritonScorer(url) as served:
        if served.spec != bundle.manifest.clip_spec:
            raise ClientError(
                f"{url} serves clips of {served.spec}, {bundle.root} takes {bundle.manifest.clip_spec}",
                "start it on this bundle",
            )


def served_contender(url: str, root: Path, what: What, batch: int, threads: int, videos: tuple[str, ...]) -> Contender:
    """One caller of the server, over gRPC."""
    job = Job(what, str(root), "served", None, batch, threads, url, videos if what == "video" else ())
    return Contender("Triton", job)


def served_row(contender: Contender) -> Row:
    """The row of a caller without its figures. What the server runs, it does not tell."""
    job = contender.job
    return Row(
        what=job.what,
        where=str(job.url),
        name=contender.label,
        format="served",
        precision="served",
        runtime="triton",
        device=contender.device,
        batch=job.batch,
        threads=job.threads,
        transport="grpc",
        status=contender.status,
        reason=contender.reason,
    )
