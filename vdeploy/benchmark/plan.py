"""The plan of a benchmark: workloads, formats, batches, servers and data."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from vdeploy.benchmark.record import Workload
from vdeploy.core.errors import BenchmarkError

__all__ = ["PEERS", "WORKLOADS", "Plan", "parse_batches", "parse_concurrency", "parse_workloads"]

WORKLOADS: tuple[Workload, ...] = ("extractor", "classifier", "pipeline", "video")
"""All workloads, in the order of the rows."""

PEERS = ("openvino", "tensorflow-predict", "tensorflow-xla")
"""Runtimes that also read files made for another runtime."""

_MOST_DIGITS = 9
"""Of a number of clips or callers."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to measure.

    Attributes:
        workloads: Single stages, the pipeline, or whole videos.
        formats: Names of formats; ``None`` for all formats of the bundle.
        batches: Clips per call; videos are always measured one by one.
        seconds: Time for each row.
        threads: Threads per call; ``None`` for all cores.
        peers: Other runtimes that run the same files; see `PEERS`.
        url: ``HOST:PORT`` of a server that serves the bundle.
        serve: Whether to start a server for each format and measure it.
        concurrency: Numbers of concurrent callers of a server.
        perf_analyzer: Path of NVIDIA's ``perf_analyzer``, to measure the same servers with.
        data: Labelled clips, of which the held-out ones are scored; ``None`` for the figures of the export.
        clips: Number of clips to score; ``None`` for all.
        positive: Names of the violent class, where they are not recognised.

    Raises:
        BenchmarkError: Options contradict each other.
    """

    workloads: tuple[Workload, ...] = WORKLOADS
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
            raise BenchmarkError("--url and --serve exclude each other", "give either --url or --serve")
        if self.url is None and not self.serve:
            for given, option in ((self.concurrency != (1,), "--concurrency"), (self.perf_analyzer, "--perf-analyzer")):
                if given:
                    raise BenchmarkError(f"{option} needs a server", "add --serve, or --url HOST:PORT")


def parse_workloads(text: str) -> tuple[Workload, ...]:
    """Parses a comma-separated list of workloads.

    Args:
        text: The list.

    Returns:
        The workloads in the order of `WORKLOADS`.

    Raises:
        BenchmarkError: A workload is unknown.
    """
    names = {part.strip() for part in text.split(",")}
    for name in sorted(names - set(WORKLOADS)):
        raise BenchmarkError(f"there is no workload {name!r}", f"choose from {', '.join(WORKLOADS)}")
    return tuple(what for what in WORKLOADS if what in names)


def parse_batches(text: str) -> tuple[int, ...]:
    """Parses a comma-separated list of batch sizes, and sorts it.

    Raises:
        BenchmarkError: One is not a positive number.
    """
    return _parse_counts(text, "batch size", "--batch 1,8")


def parse_concurrency(text: str) -> tuple[int, ...]:
    """Parses a comma-separated list of numbers of concurrent callers, and sorts it.

    Raises:
        BenchmarkError: One is not a positive number.
    """
    return _parse_counts(text, "number of callers", "--concurrency 1,2,4,8")


def _parse_counts(text: str, kind: str, example: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    for part in parts:
        if not part.isdecimal() or len(part) > _MOST_DIGITS or int(part) < 1:
            raise BenchmarkError(f"{part!r} is no {kind}", f"give numbers from 1 on, for example {example}")
    return tuple(sorted({int(part) for part in parts}))
