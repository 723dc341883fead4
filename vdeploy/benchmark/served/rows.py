"""Rows of servers: each workload, over each transport, with each number of concurrent callers."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

from vdeploy.artifacts.bundle import Bundle
from vdeploy.benchmark.measure.candidates import Candidate
from vdeploy.benchmark.measure.interleaving import Measurement
from vdeploy.benchmark.measure.row_job import Job
from vdeploy.benchmark.measure.side_by_side import SideBySide
from vdeploy.benchmark.measure.unmeasured import unmeasured_row
from vdeploy.benchmark.plan import Plan
from vdeploy.benchmark.record import Row, Transport, Workload
from vdeploy.benchmark.served.cross_check import CrossCheck
from vdeploy.benchmark.served.regions import release_dead_regions
from vdeploy.benchmark.served.statistics import other_requests, server_times
from vdeploy.benchmark.served.target import Target, check_server, start_server
from vdeploy.core.errors import RepositoryError, ServerError
from vdeploy.core.progress import say
from vdeploy.triton.client.channel import host_and_port
from vdeploy.triton.repository.backends import refusal
from vdeploy.triton.server.install import find_install

__all__ = ["ServedRows"]

_TRANSPORTS: tuple[Transport, ...] = ("grpc", "shared memory")


class ServedRows:
    """Measures the servers of a plan, if it has any.

    Args:
        bundle: The bundle.
        plan: What to measure.
        candidates: The candidates; those in their format's own runtime are served.
        threads: Threads per call in process, and of a server that is started.

    Raises:
        BenchmarkError: ``perf_analyzer`` cannot be run.
        ClientError: The server does not answer, or serves another model.
        ServerError: No Triton is available to start.
    """

    def __init__(self, bundle: Bundle, plan: Plan, candidates: Sequence[Candidate], threads: int) -> None:
        self._bundle, self._plan, self._threads = bundle, plan, threads
        self._candidates = [candidate for candidate in candidates if not candidate.peer and candidate.runs("pipeline")]
        if plan.url is not None:
            check_server(plan.url, bundle)
        self._install = find_install() if plan.serve else None
        self._cross_check = CrossCheck(plan.perf_analyzer, plan.seconds) if plan.perf_analyzer else None

    def run(self, side_by_side: SideBySide) -> Iterator[Row]:
        """Measures the servers, each side by side with the same format in process.

        Args:
            side_by_side: Runs the measurements.

        Yields:
            The rows; for a format that cannot be served on this machine, one with the reason.
        """
        if self._plan.url is not None:
            yield from self._rows(Target(host_and_port(self._plan.url)), side_by_side)
        if self._install is None:
            return
        for candidate in self._candidates:
            try:
                if reason := refusal(candidate.format):
                    raise RepositoryError(*reason)
                say(f"benchmark: start Triton on {candidate.format}")
                with start_server(self._bundle, candidate, self._install, self._threads) as target:
                    yield from self._rows(target, side_by_side)
            except (RepositoryError, ServerError) as error:
                yield self._absent(candidate, str(error))

    def _rows(self, target: Target, side_by_side: SideBySide) -> Iterator[Row]:
        for what in self._plan.workloads:
            for batch in (1,) if what == "video" else self._plan.batches:
                yield from self._workload(target, side_by_side, what, batch)
        release_dead_regions(target.url)

    def _workload(self, target: Target, side_by_side: SideBySide, what: Workload, batch: int) -> Iterator[Row]:
        videos = side_by_side.videos if what == "video" else ()
        settings: Iterable[tuple[int, Transport]] = [(1, "grpc")]
        if what == "pipeline":
            settings = itertools.product(self._plan.concurrency, _TRANSPORTS)
        measurements = [
            Measurement(
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
        measurements[0].label = target.name
        partner = side_by_side.measurement(target.candidate, what, batch) if target.candidate else None
        scoring = () if what in ("extractor", "classifier") else (target.name,)
        side_by_side.measure([*measurements, *([partner] if partner else [])], scoring)
        for measurement in measurements:
            row = side_by_side.complete(target.candidate, measurement, self._row(target, measurement, partner))
            if self._cross_check is None or what != "pipeline" or row.status != "ok":
                yield row
            else:
                yield from self._cross_check.rows(row, self._bundle.manifest)

    def _row(self, target: Target, measurement: Measurement, partner: Measurement | None) -> Row:
        job, times = measurement.job, server_times(measurement.server)
        return Row(
            what=job.what,
            where=target.url,
            name=target.name,
            format=target.format,
            precision=target.candidate.precision(job.what) if target.candidate else "served",
            runtime="triton",
            device="server",
            batch=job.batch,
            threads=job.threads,
            concurrency=job.concurrency,
            transport=job.transport,
            status=measurement.status,
            reason=measurement.reason,
            size_bytes=target.candidate.size_bytes(job.what) if target.candidate else None,
            queue_ms=sum(time.queue_ms for time in times.values()) if times else None,
            compute_ms=sum(time.compute_ms for time in times.values()) if times else None,
            server=times,
            other_requests=other_requests(measurement.server, measurement.sent, job.concurrency),
            in_process_clips_per_s=_settled_rate(partner),
        )

    def _absent(self, candidate: Candidate, reason: str) -> Row:
        return unmeasured_row(
            f"Triton, {candidate.format}",
            candidate.format,
            "absent",
            reason,
            self._threads,
            where="a server of its own",
            precision=candidate.precision("pipeline"),
            runtime="triton",
            device="server",
            size_bytes=candidate.size_bytes("pipeline"),
        )


def _settled_rate(partner: Measurement | None) -> float | None:
    """Clips per second in process; ``None`` where that was not measured, or did not settle."""
    if partner is None or partner.status != "ok" or not partner.series.settled:
        return None
    return float(partner.series.figures(partner.job.batch, 1)["clips_per_s"])
