"""Side-by-side runs: all candidates of one workload and batch measured against each other, and their rows."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from vdeploy.artifacts.bundle import Bundle
from vdeploy.benchmark.measure.accuracy import HeldOutVideos, figures_of_manifest
from vdeploy.benchmark.measure.candidates import Candidate
from vdeploy.benchmark.measure.flops import BundleFlops
from vdeploy.benchmark.measure.interleaving import Measurement, ScoreClips, measure_interleaved
from vdeploy.benchmark.measure.process import RowProcess
from vdeploy.benchmark.measure.row_job import Job
from vdeploy.benchmark.measure.subjects import DISTINCT_INPUTS
from vdeploy.benchmark.plan import Plan
from vdeploy.benchmark.record import IN_PROCESS, Peak, Row, Shares, Workload
from vdeploy.synthetic import synthesize

__all__ = ["SideBySide"]

_SCORING: tuple[Workload, ...] = ("pipeline", "video")
"""Workloads that give probabilities of clips."""

_REFERENCES = ("savedmodel", "onnx-fp32", "tflite-fp32")
"""The first of these that has scored the clips is what the others are compared with."""


class SideBySide:
    """Measures the candidates of a bundle side by side.

    A context manager: where no clips were given, it keeps generated videos until it is closed.

    Args:
        bundle: The bundle.
        plan: What to measure.
        candidates: Formats in their runtimes.
        threads: Threads per call.
        peaks: The machine's measured peaks.
        held_out: Clips to score; ``None`` for the figures of the export.
    """

    def __init__(
        self,
        bundle: Bundle,
        plan: Plan,
        candidates: Sequence[Candidate],
        threads: int,
        peaks: Sequence[Peak],
        held_out: HeldOutVideos | None,
    ) -> None:
        self._bundle, self._plan, self._candidates = bundle, plan, list(candidates)
        self._threads, self._held_out = threads, held_out
        self._flops = BundleFlops(bundle)
        self._peaks = {peak.data_type: peak.gflops for peak in peaks}
        self._scores: dict[str, dict[str, float]] = {}

    def __enter__(self) -> SideBySide:
        self._folder = tempfile.TemporaryDirectory(prefix="vdeploy-benchmark-")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._folder.cleanup()

    def run(self, what: Workload) -> Iterator[Row]:
        """Measures a workload at every batch size.

        Args:
            what: The workload.

        Yields:
            The rows.
        """
        for batch in (1,) if what == "video" else self._plan.batches:
            able = [candidate for candidate in self._candidates if candidate.runs(what)]
            measurements = [self.measurement(candidate, what, batch) for candidate in able]
            self.measure(measurements, [candidate.name for candidate in able] if what in _SCORING else ())
            for candidate, measurement in zip(able, measurements, strict=True):
                yield self.complete(candidate, measurement, _local_row(candidate, measurement))

    def measurement(self, candidate: Candidate, what: Workload, batch: int) -> Measurement:
        """Describes the measurement of a candidate in process."""
        videos = self.videos if what == "video" else ()
        root, threads = str(self._bundle.root), self._threads
        job = Job(what, root, candidate.format, candidate.runtime, batch, threads, videos=videos)
        return Measurement(candidate.name, job)

    @functools.cached_property
    def videos(self) -> tuple[str, ...]:
        """Input files: held-out clips where there are any, else generated ones."""
        if self._held_out is not None:
            return tuple(self._held_out.paths[:DISTINCT_INPUTS])
        return tuple(map(str, synthesize(Path(self._folder.name) / "videos", clips=DISTINCT_INPUTS)))

    def measure(self, measurements: Sequence[Measurement], scoring: Collection[str]) -> None:
        """Runs measurements side by side.

        Args:
            measurements: What to measure; the results are written into them.
            scoring: Labels of those that score the held-out clips, once per label.
        """
        measure_interleaved(measurements, self._plan.seconds, self._scorer(scoring))
        for measurement in measurements:
            if measurement.probabilities:
                self._scores[measurement.label] = measurement.probabilities

    def _scorer(self, labels: Collection[str]) -> ScoreClips | None:
        held_out = self._held_out
        wanted = set(labels) - self._scores.keys()
        if held_out is None or not wanted:
            return None

        def score(measurement: Measurement, process: RowProcess) -> None:
            if measurement.label in wanted:
                held_out.score(measurement, process)

        return score

    def complete(self, candidate: Candidate | None, measurement: Measurement, row: Row) -> Row:
        """Completes a row with the figures of its measurement.

        Args:
            candidate: The candidate; ``None`` where a server does not report its format.
            measurement: The finished measurement.
            row: The row without figures.
        """
        job = measurement.job
        row = row.model_copy(update=self._accuracy(candidate, row))
        if measurement.status != "ok":
            return row
        figures = measurement.series.figures(job.batch, self._bundle.manifest.clip_spec.frames)
        figures |= self._speed(row, figures["clips_per_s"])
        return row.model_copy(update={**figures, "shares": _shares(measurement)})

    def _accuracy(self, candidate: Candidate | None, row: Row) -> dict[str, Any]:
        found = self._scores.get(row.name)
        if self._held_out is not None and found is not None and row.what in _SCORING:
            reference = next((self._scores[name] for name in _REFERENCES if name in self._scores), None)
            return self._held_out.figures(found, reference)
        return {} if candidate is None else figures_of_manifest(self._bundle.manifest, candidate, row.what)

    def _speed(self, row: Row, clips_per_s: float) -> dict[str, float | None]:
        flop = self._flops.per_clip(row.what)
        if flop is None:
            return {}
        gflops = flop * clips_per_s / 1e9
        peak = self._peaks.get(row.precision) if row.device == "cpu" else None
        return {"flop_per_clip": flop, "gflops": gflops, "peak_share": gflops / peak if peak else None}


def _local_row(candidate: Candidate, measurement: Measurement) -> Row:
    job = measurement.job
    return Row(
        what=job.what,
        where=IN_PROCESS,
        name=candidate.name,
        format=candidate.format,
        peer=candidate.peer,
        precision=candidate.precision(job.what),
        runtime=candidate.runtime,
        device=measurement.device,
        batch=job.batch,
        threads=job.threads,
        status=measurement.status,
        reason=measurement.reason,
        size_bytes=candidate.size_bytes(job.what),
        peak_memory_bytes=measurement.peak_memory_bytes,
    )


def _shares(measurement: Measurement) -> Shares | None:
    total = sum(measurement.parts.values())
    return Shares(**{part: seconds / total for part, seconds in measurement.parts.items()}) if total else None
