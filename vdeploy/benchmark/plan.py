"""What a benchmark is to measure."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from vdeploy.benchmark.record import What
from vdeploy.core.errors import BenchmarkError

__all__ = ["PEERS", "WHATS", "Plan", "parse_batches", "parse_concurrency", "parse_whats"]

WHATS: tuple[What, ...] = ("extractor", "classifier", "pipeline", "video")
"""Everything that can be measured, in the order of the rows."""

PEERS = ("openvino", "tensorflow-predict", "tensorflow-xla")
"""Runtimes that read files which are made for another one."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to measure.

    Attributes:
        whats: Stages and wholes.
        formats: Names of formats; ``None`` for all that the bundle holds.
        batches: Clips a call; a video is called alone.
        seconds: How long to measure each row.
        threads: Threads of a call; ``None`` for all cores.
        peers: Other runtimes that run the same files; see `PEERS`.
        url: ``HOST:PORT`` of a server that serves the bundle.
        serve: Whether to start servers of one's own, one for each format, and measure them.
        concurrency: Callers of a server at once, one number after the other.
        perf_analyzer: NVIDIA's program, to measure the same servers with.
        data: Labelled clips, to judge those that were held out; ``None`` for the export's figures.
        clips: How many of them; ``None`` for all.
        positive: Names of the class that means violence, where they are not recognised.

    Raises:
        BenchmarkError: Parts of it do not go together.
    """

    whats: tuple[What, ...] = WHATS
    formats: tuple[str, ...] | None = None
    batches: tuple[int, ...] = (1,)
    seconds: float = 5.0
    threads: int | None = None
    peers: tuple[str, ...] = ()
    url: str | None = None
    serve: bool = False
    concurrency: tuple[int, ...] = (1,)
    perf_analyzer: Path | None = None
    data: Path | None = None
    clips: int | None = None
    positive: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.url is not None and self.serve:
            raise BenchmarkError("a server is there, and another is to be started", "give either --url or --serve")
        if self.url is None and not self.serve:
            for given, option in ((self.concurrency != (1,), "--concurrency"), (self.perf_analyzer, "--perf-analyzer")):
                if given:
                    raise BenchmarkError(f"{option} is about a server", "add --serve, or --url HOST:PORT")


def parse_whats(text: str) -> tuple[What, ...]:
    """Reads a comma-separated list of what to measure, and puts it in order.

    Raises:
        BenchmarkError: There is no such thing.
    """
    names = {part.strip() for part in text.split(",")}
    for name in sorted(names - set(WHATS)):
        raise BenchmarkError(f"there is no row of {name!r}", f"choose from {', '.join(WHATS)}")
    return tuple(what for what in WHATS if what in names)


def parse_batches(text: str) -> tuple[int, ...]:
    """Reads a comma-separated list of batch sizes, and puts it in order.

    Raises:
        BenchmarkError: One is no number above zero.
    """
    return _parse_counts(text, "batch size", "--batch 1,8")


def parse_concurrency(text: str) -> tuple[int, ...]:
    """Reads a comma-separated list of numbers of callers, and puts it in order.

    Raises:
        BenchmarkError: One is no number above zero.
    """
    return _parse_counts(text, "number of callers", "--concurrency 1,2,4,8")


def _parse_counts(text: str, kind: str, example: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    for part in parts:
        if not part.isdecimal() or int(part) < 1:
            raise BenchmarkError(f"{part!r} is no {kind}", f"give numbers from 1 on, for example {example}")
    return tuple(sorted({int(part) for part in parts}))
