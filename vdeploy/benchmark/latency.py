"""Latency and throughput of each stage of a bundle, and of the whole, in process and through a server."""

from __future__ import annotations

import dataclasses
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from training.clock import now
from training.progress import track
from vdeploy import __version__
from vdeploy.bundle import Bundle
from vdeploy.errors import ClientError
from vdeploy.export.parity import synthetic_frames
from vdeploy.runtimes.base import available_cores
from vdeploy.runtimes.local import LocalScorer

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Row", "benchmark_bundle", "cpu_name"]

_WARMUP_CALLS = 2
_LEAST_CALLS = 5
_DISTINCT_CLIPS = 4


@dataclasses.dataclass(frozen=True)
class Row:
    """One measurement.

    Attributes:
        what: ``"extractor"``, ``"classifier"`` or ``"pipeline"`` (frames to probabilities).
        where: ``"in process"``, or the address of the server.
        format: The format.
        batch: Clips a call.
        calls: Calls that were timed, after the warm-up.
        p50_ms: Half of the calls were faster.
        p90_ms: 90 % were.
        p95_ms: 95 % were.
        p99_ms: 99 % were.
        clips_per_s: Throughput of one caller after the other.
    """

    what: str
    where: str
    format: str
    batch: int
    calls: int
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    clips_per_s: float


def benchmark_bundle(
    root: Path, *, url: str | None = None, batch: int = 1, seconds: float = 5.0, format_name: str | None = None
) -> dict[str, Any]:
    """Measures a bundle.

    Args:
        root: Folder of the bundle.
        url: ``HOST:PORT`` of a server that serves it; left out, only this process is measured.
        batch: Clips a call.
        seconds: How long to measure each row.
        format_name: The format to run in process; left out, the first of the table that the bundle holds.

    Returns:
        JSON-ready: machine, versions and rows.

    Raises:
        ClientError: The server serves something else.
    """
    bundle = Bundle(root)
    scorer = LocalScorer(bundle, format_name)
    clip = scorer.spec
    frames = synthetic_frames(batch * _DISTINCT_CLIPS, clip.frames, clip.size).reshape(
        _DISTINCT_CLIPS, batch, clip.frames, clip.size, clip.size, 3
    )
    features = np.stack([scorer.extract(portion) for portion in frames])
    here = "in process"
    jobs: list[tuple[str, str, Callable[[Any], Any], npt.NDArray[Any]]] = [
        ("extractor", here, scorer.extract, frames),
        ("classifier", here, scorer.classify, features),
        ("pipeline", here, scorer.score, frames),
    ]
    if url is None:
        rows = _measure(jobs, scorer.format_name, batch, seconds)
    else:
        from vdeploy.triton.client import TritonScorer  # noqa: PLC0415  only with a server

        with TritonScorer(url) as served:
            if served.spec != clip:
                raise ClientError(
                    f"{url} serves clips of {served.spec}, {root} takes {clip}", "start it on this bundle"
                )
            rows = _measure([*jobs, ("pipeline", url, served.score, frames)], scorer.format_name, batch, seconds)
    return {
        "created": now(),
        "vdeploy": __version__,
        "machine": {"cpu": cpu_name(), "cores": available_cores(), "system": platform.platform()},
        "bundle": str(root),
        "rows": [dataclasses.asdict(row) for row in rows],
    }


def cpu_name() -> str:
    """Model of this machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _measure(
    jobs: list[tuple[str, str, Callable[[Any], Any], npt.NDArray[Any]]], format_name: str, batch: int, seconds: float
) -> list[Row]:
    rows = []
    with track("benchmark", len(jobs), "rows") as step:
        for what, where, call, inputs in jobs:
            step.advance(0, note=f"{what}, {where}")
            durations = _time(call, inputs, seconds)
            p50, p90, p95, p99 = (float(value) * 1000 for value in np.percentile(durations, [50, 90, 95, 99]))
            rows.append(
                Row(
                    what,
                    where,
                    format_name,
                    batch,
                    len(durations),
                    p50,
                    p90,
                    p95,
                    p99,
                    batch / float(np.mean(durations)),
                )
            )
            step.advance()
    return rows


def _time(call: Callable[[Any], Any], inputs: npt.NDArray[Any], seconds: float) -> list[float]:
    """Durations of calls in seconds; the inputs alternate, so that no cache of answers is measured."""
    for index in range(_WARMUP_CALLS):
        call(inputs[index % len(inputs)])
    durations: list[float] = []
    end = time.perf_counter() + seconds
    while len(durations) < _LEAST_CALLS or time.perf_counter() < end:
        portion = inputs[len(durations) % len(inputs)]
        started = time.perf_counter()
        call(portion)
        durations.append(time.perf_counter() - started)
    return durations
