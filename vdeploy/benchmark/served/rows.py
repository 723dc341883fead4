"""Rows of servers: each thing that a server does, over each transport, with each number of callers."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

from vdeploy.artifacts.bundle import Bundle
from vdeploy.benchmark.measure.candidates import Way
from vdeploy.benchmark.measure.interleaving import Contender
from vdeploy.benchmark.measure.row_job import Job
from vdeploy.benchmark.measure.side_by_side import Heats
from vdeploy.benchmark.plan import Plan
from vdeploy.benchmark.record import Row, Transport, What
from vdeploy.benchmark.served.cross_check import CrossCheck
from vdeploy.benchmark.served.models import STAGE_MODELS
from vdeploy.benchmark.served.regions import release_dead_regions
from vdeploy.benchmark.served.statistics import other_requests, server_times
from vdeploy.benchmark.served.target import Target, check_server, start_server
from vdeploy.core.errors import RepositoryError, ServerError
from vdeploy.core.progress import say
from vdeploy.triton.repository.backends import refusal
from vdeploy.triton.server.install import find_install

__all__ = ["ServedRows"]

_TRANSPORTS: tuple[Transport, ...] = ("grpc", "shared memory")


class ServedRows:
    """Measures the servers of a plan; none if it names none.

    Args:
        bundle: The bundle.
        plan: What to measure.
        ways: The ways that take part; those in their own runtime are served.
        threads: Threads of a call in process, and of a server that is started.

    Raises:
        BenchmarkError: ``perf_analyzer`` cannot be run.
        ClientError: The server does not answer, or serves something else.
        ServerError: No Triton can be had to start.
    """

    def __init__(self, bundle: Bundle, plan: Plan, ways: Sequence[Way], threads: int) -> None:
        self._bundle, self._plan, self._threads = bundle, plan, threads
        self._ways = [way for way in ways if not way.peer and way.runs("pipeline")]
        if plan.url is not None:
            check_server(plan.url, bundle)
        self._install = find_install() if plan.serve else None
        self._cross_check = CrossCheck(plan.perf_analyzer, plan.seconds) if plan.perf_analyzer else None

    def run(self, heats: Heats) -> Iterator[Row]:
        """Measures.

        Args:
            heats: What measures side by side and knows the machine's peak and the held-out clips.

        Yields:
            The rows; one with the reason for a format that cannot be served here.
        """
        if self._plan.url is not None:
            yield from self._of(Target(self._plan.url), heats)
        if self._install is None:
            return
        for way in self._ways:
            try:
                if reason := refusal(way.format):
                    raise RepositoryError(*reason)
                say(f"benchmark: start Triton on {way.format}")
                with start_server(self._bundle, way, self._install, self._threads) as target:
                    yield from self._of(target, heats)
            except (RepositoryError, ServerError) as error:
                yield self._absent(way, error)

    def _of(self, target: Target, heats: Heats) -> Iterator[Row]:
        for what in self._plan.whats:
            for batch in (1,) if what == "video" else self._plan.batches:
                yield from self._heat(target, heats, what, batch)
        release_dead_regions(target.url)

    def _heat(self, target: Target, heats: Heats, what: What, batch: int) -> Iterator[Row]:
        videos = heats.videos if what == "video" else ()
        settings: Iterable[tuple[int, Transport]] = [(1, "grpc")]
        if what == "pipeline":
            settings = itertools.product(self._plan.concurrency, _TRANSPORTS)
        contenders = [
            Contender(
                f"{target.name}, {transport}, {concurrency}",
                Job(
                    *(what, str(self._bundle.root), target.format, None, batch, self._threads, target.url),
                    videos=videos,
                    concurrency=concurrency,
                    transport=transport,
                ),
            )
            for concurrency, transport in settings
        ]
        contenders[0].label = target.name
        partner = heats.contender(target.way, what, batch) if target.way else None
        judging = () if what in STAGE_MODELS else (target.name,)
        heats.measure([*contenders, *([partner] if partner else [])], judging)
        for contender in contenders:
            row = heats.complete(target.way, contender, self._row(target, contender, partner))
            if self._cross_check is None or what != "pipeline" or row.status != "ok":
                yield row
            else:
                yield from self._cross_check.rows(row, self._bundle.manifest)

    def _row(self, target: Target, contender: Contender, partner: Contender | None) -> Row:
        job, times = contender.job, server_times(contender.server)
        return Row(
            what=job.what,
            where=target.url,
            name=target.name,
            format=target.format,
            precision=target.way.precision(job.what) if target.way else "served",
            runtime="triton",
            device="server",
            batch=job.batch,
            threads=job.threads,
            concurrency=job.concurrency,
            transport=job.transport,
            status=contender.status,
            reason=contender.reason,
            size_bytes=target.way.size_bytes(job.what) if target.way else None,
            queue_ms=sum(time.queue_ms for time in times.values()) if times else None,
            compute_ms=sum(time.compute_ms for time in times.values()) if times else None,
            server=times,
            other_requests=other_requests(contender.server, contender.sent, job.concurrency),
            in_process_clips_per_s=_settled_rate(partner),
        )

    def _absent(self, way: Way, error: RepositoryError | ServerError) -> Row:
        return Row(
            what="pipeline",
            where="a server of its own",
            name=f"Triton, {way.format}",
            format=way.format,
            precision=way.precision("pipeline"),
            runtime="triton",
            device="server",
            batch=1,
            threads=self._threads,
            status="absent",
            reason=str(error),
            size_bytes=way.size_bytes("pipeline"),
        )


def _settled_rate(partner: Contender | None) -> float | None:
    """Clips a second in process; nothing where that was not measured, or did not settle."""
    if partner is None or partner.status != "ok" or not partner.series.settled:
        return None
    return float(partner.series.figures(partner.job.batch, 1)["clips_per_s"])
