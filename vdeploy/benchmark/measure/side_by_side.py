"""Heats: all ways to do the same on the same batch, measured against each other, and the rows that come of it."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from vdeploy.artifacts.bundle import Bundle
from vdeploy.benchmark.measure.accuracy import HeldOutVideos, figures_of_manifest
from vdeploy.benchmark.measure.candidates import Way
from vdeploy.benchmark.measure.flops import flop_per_clip
from vdeploy.benchmark.measure.interleaving import Contender, Judge, measure_side_by_side
from vdeploy.benchmark.measure.process import RowProcess
from vdeploy.benchmark.measure.row_job import Job
from vdeploy.benchmark.measure.workloads import DISTINCT_INPUTS
from vdeploy.benchmark.plan import Plan
from vdeploy.benchmark.record import IN_PROCESS, Peak, Row, Shares, What
from vdeploy.synthetic import synthesize

__all__ = ["Heats"]

_JUDGING: tuple[What, ...] = ("pipeline", "video")
"""What turns frames into verdicts."""

_REFERENCES = ("savedmodel", "onnx-fp32", "tflite-fp32")
"""Whose verdicts the others are compared with: the first of these that was judged."""


class Heats:
    """Runs heats; a context manager, for it draws videos where none were given.

    Args:
        bundle: The bundle.
        plan: What to measure.
        ways: The ways that take part.
        threads: Threads of a call.
        peaks: What the machine can do.
        held_out: Clips to judge; ``None`` for the export's figures.
    """

    def __init__(
        self,
        bundle: Bundle,
        plan: Plan,
        ways: Sequence[Way],
        threads: int,
        peaks: Sequence[Peak],
        held_out: HeldOutVideos | None,
    ) -> None:
        self._bundle, self._plan, self._ways = bundle, plan, list(ways)
        self._threads, self._held_out = threads, held_out
        self._peaks = {peak.data_type: peak.gflops for peak in peaks}
        self._verdicts: dict[str, dict[str, float]] = {}

    def __enter__(self) -> Heats:
        self._folder = tempfile.TemporaryDirectory(prefix="vdeploy-benchmark-")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._folder.cleanup()

    def run(self, what: What) -> Iterator[Row]:
        """Measures one thing at every batch size.

        Args:
            what: The stage or whole.

        Yields:
            The rows.
        """
        for batch in (1,) if what == "video" else self._plan.batches:
            entries = [(way, self.contender(way, what, batch)) for way in self._ways if way.runs(what)]
            contenders = [contender for _, contender in entries]
            self.measure(contenders, [contender.label for contender in contenders] if what in _JUDGING else ())
            yield from [self.complete(way, contender, _local_row(way, contender)) for way, contender in entries]

    def contender(self, way: Way, what: What, batch: int) -> Contender:
        """A way in process, to be measured."""
        videos = self.videos if what == "video" else ()
        job = Job(what, str(self._bundle.root), way.format, way.runtime, batch, self._threads, videos=videos)
        return Contender(way.name, job)

    @functools.cached_property
    def videos(self) -> tuple[str, ...]:
        """Files to call with: held-out ones, or drawn ones."""
        if self._held_out is not None:
            return tuple(self._held_out.paths[:DISTINCT_INPUTS])
        return tuple(map(str, synthesize(Path(self._folder.name) / "videos", clips=DISTINCT_INPUTS)))

    def measure(self, contenders: Sequence[Contender], judging: Collection[str]) -> None:
        """Measures contenders side by side.

        Args:
            contenders: Rows on their way.
            judging: Labels of those that judge clips, if there are any to judge and they have not yet.
        """
        measure_side_by_side(contenders, self._plan.seconds, self._judge(judging))
        for contender in contenders:
            if contender.probabilities:
                self._verdicts[contender.label] = contender.probabilities

    def _judge(self, labels: Collection[str]) -> Judge | None:
        held_out = self._held_out
        wanted = set(labels) - self._verdicts.keys()
        if held_out is None or not wanted:
            return None

        def judge(contender: Contender, process: RowProcess) -> None:
            if contender.label in wanted:
                held_out.judge(contender, process)

        return judge

    def complete(self, way: Way | None, contender: Contender, row: Row) -> Row:
        """Puts figures into a row.

        Args:
            way: What runs; ``None`` where a server does not tell.
            contender: What was measured.
            row: All but the figures.
        """
        job = contender.job
        row = row.model_copy(update=self._goodness(way, row))
        if contender.status != "ok":
            return row
        figures = contender.series.figures(job.batch, self._bundle.manifest.clip_spec.frames)
        figures |= self._speed(row, figures["clips_per_s"])
        return row.model_copy(update={**figures, "shares": _shares(contender)})

    def _goodness(self, way: Way | None, row: Row) -> dict[str, Any]:
        found = self._verdicts.get(row.name)
        if self._held_out is not None and found is not None and row.what in _JUDGING:
            reference = next((self._verdicts[name] for name in _REFERENCES if name in self._verdicts), None)
            return self._held_out.figures(found, reference)
        return {} if way is None else figures_of_manifest(self._bundle.manifest, way, row.what)

    def _speed(self, row: Row, clips_per_s: float) -> dict[str, float | None]:
        flop = flop_per_clip(self._bundle.manifest, row.what)
        if flop is None:
            return {}
        gflops = flop * clips_per_s / 1e9
        peak = self._peaks.get(row.precision) if row.device == "cpu" else None
        return {"flop_per_clip": flop, "gflops": gflops, "peak_share": gflops / peak if peak else None}


def _local_row(way: Way, contender: Contender) -> Row:
    job = contender.job
    return Row(
        what=job.what,
        where=IN_PROCESS,
        name=way.name,
        format=way.format,
        peer=way.peer,
        precision=way.precision(job.what),
        runtime=way.runtime,
        device=contender.device,
        batch=job.batch,
        threads=job.threads,
        status=contender.status,
        reason=contender.reason,
        size_bytes=way.size_bytes(job.what),
        peak_memory_bytes=contender.peak_memory_bytes,
    )


def _shares(contender: Contender) -> Shares | None:
    total = sum(contender.parts.values())
    return Shares(**{part: seconds / total for part, seconds in contender.parts.items()}) if total else None
