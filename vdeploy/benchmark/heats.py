"""Heats: all ways to do the same on the same batch, measured against each other, and the rows that come of it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from training.synth import synthesize
from vdeploy.benchmark.accuracy import HeldOutVideos, figures_of_manifest
from vdeploy.benchmark.calls import DISTINCT_INPUTS
from vdeploy.benchmark.flops import flop_per_clip
from vdeploy.benchmark.job import Job
from vdeploy.benchmark.plan import Plan
from vdeploy.benchmark.record import IN_PROCESS, Peak, Row, Shares, What
from vdeploy.benchmark.rounds import Contender, Judge, measure_side_by_side
from vdeploy.benchmark.served import SERVED_WHATS, served_contender, served_row
from vdeploy.benchmark.ways import Way
from vdeploy.bundle import Bundle

__all__ = ["Heats"]

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
        videos = self._videos() if what == "video" else ()
        for batch in (1,) if what == "video" else self._plan.batches:
            entries = self._entries(what, batch, videos)
            measure_side_by_side([contender for _, contender in entries], self._plan.seconds, self._judge(entries))
            for _, contender in entries:
                if contender.probabilities:
                    self._verdicts[contender.label] = contender.probabilities
            yield from [self._row(way, contender) for way, contender in entries]

    def _entries(self, what: What, batch: int, videos: tuple[str, ...]) -> list[tuple[Way | None, Contender]]:
        entries: list[tuple[Way | None, Contender]] = []
        root, threads, url = str(self._bundle.root), self._threads, self._plan.url
        for way in self._ways:
            if way.runs(what):
                job = Job(what, root, way.format, way.runtime, batch, threads, videos=videos)
                entries.append((way, Contender(way.name, job)))
        if url is not None and what in SERVED_WHATS:
            entries.append((None, served_contender(url, self._bundle.root, what, batch, threads, videos)))
        return entries

    def _videos(self) -> tuple[str, ...]:
        if self._held_out is not None:
            return tuple(self._held_out.paths[:DISTINCT_INPUTS])
        return tuple(map(str, synthesize(Path(self._folder.name) / "videos", clips=DISTINCT_INPUTS)))

    def _judge(self, entries: Sequence[tuple[Way | None, Contender]]) -> Judge | None:
        """What has the contenders judge clips, if they can and have not yet."""
        names = {contender.label for _, contender in entries}
        can = all(contender.job.what in SERVED_WHATS for _, contender in entries)
        if self._held_out is None or not can or names <= self._verdicts.keys():
            return None
        return self._held_out.judge

    def _row(self, way: Way | None, contender: Contender) -> Row:
        job = contender.job
        row = served_row(contender) if way is None else _local_row(way, contender)
        row = row.model_copy(update=self._goodness(way, row))
        if contender.status != "ok":
            return row
        figures = contender.series.figures(job.batch, self._bundle.manifest.clip_spec.frames)
        figures |= self._speed(row, figures["clips_per_s"])
        return row.model_copy(update={**figures, "shares": _shares(contender)})

    def _goodness(self, way: Way | None, row: Row) -> dict[str, Any]:
        found = self._verdicts.get(row.name)
        if self._held_out is not None and found is not None and row.what in SERVED_WHATS:
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
