"""Measures served rows again with ``perf_analyzer``: same server, model, inputs and number of callers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vdeploy.artifacts.bundle import Manifest
from vdeploy.benchmark.measure.subjects import distinct_inputs
from vdeploy.benchmark.record import Row
from vdeploy.benchmark.served.models import served_model
from vdeploy.benchmark.served.perf_analyzer import Figures, PerfAnalyzer, PerfError, Setting
from vdeploy.core.progress import say

__all__ = ["CrossCheck"]


class CrossCheck:
    """Compares served rows with ``perf_analyzer``.

    Args:
        binary: Path of ``perf_analyzer``.
        seconds: Time for each row.
        stability_percent: See `PerfAnalyzer`.

    Raises:
        BenchmarkError: The program cannot be run.
    """

    def __init__(self, binary: Path, seconds: float, *, stability_percent: float = 10.0) -> None:
        self._program, self._seconds = PerfAnalyzer(binary, stability_percent=stability_percent), seconds

    def rows(self, row: Row, manifest: Manifest) -> Iterator[Row]:
        """Measures a row again.

        Args:
            row: A measured row of a server.
            manifest: Manifest of the served bundle.

        Yields:
            The row with the throughput that ``perf_analyzer`` found, then a row with its figures.
        """
        model = served_model(row.what, manifest)
        setting = Setting(
            url=row.where,
            model=model.name,
            tensor=model.input_name,
            answer=model.output_name,
            batch=row.batch,
            concurrency=row.concurrency,
            transport=row.transport or "grpc",
            call_seconds=(row.p50_ms or 0.0) / 1000,
        )
        say(f"benchmark: perf_analyzer on {row.name}, {setting.transport}, {row.concurrency} callers")
        try:
            figures = self._program.measure(setting, list(distinct_inputs(manifest, row.what, 1)[:, 0]), self._seconds)
        except PerfError as error:
            yield row
            yield _other(row, {"status": "error", "reason": f"perf_analyzer: {error}"})
        else:
            yield row.model_copy(update={"perf_analyzer_clips_per_s": figures.clips_per_s})
            yield _other(row, _fields(figures, manifest.clip_spec.frames))


def _fields(figures: Figures, frames: int) -> dict[str, float | int | bool]:
    return {
        "settled": True,
        "calls": figures.requests,
        "clips_per_s": figures.clips_per_s,
        "frames_per_s": figures.clips_per_s * frames,
        **{f"p{percentile}_ms": value for percentile, value in figures.percentiles_ms.items()},
    }


def _other(row: Row, values: dict[str, float | int | bool] | dict[str, str]) -> Row:
    """Makes the row of ``perf_analyzer`` in the same setting."""
    kept = ("what", "where", "format", "precision", "runtime", "device", "batch", "threads", "concurrency", "transport")
    common = {name: getattr(row, name) for name in kept}
    name = row.name.replace("Triton", "perf_analyzer", 1)
    return Row.model_validate({"status": "ok", **common, "name": name, **values})
