"""Writes scaling studies: numbers as JSON, and a chart."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vdeploy import __version__
from vdeploy.benchmark.measure.machine import describe_machine
from vdeploy.benchmark.scaling.measurements import Study
from vdeploy.core.errors import BenchmarkError
from vdeploy.core.files import atomic_write, write_json
from vdeploy.core.lazy_imports import require
from vdeploy.core.timestamps import now
from vdeploy.inference.runtimes.base import available_cores

__all__ = ["CHART", "NUMBERS", "scaling_report", "write_scaling"]

NUMBERS = "scaling.json"
CHART = "scaling.svg"

_AXES = {"batch": "clips per batch", "devices": "devices", "clips": "clips of the data set"}


def scaling_report(source: Path, studies: Sequence[Study], threads: int | None = None) -> dict[str, Any]:
    """Converts studies to JSON-ready values, with the machine as a `vdeploy.benchmark.record.Environment`.

    Args:
        source: The run or the bundle.
        studies: The studies.
        threads: Threads per call; all available cores if left out.
    """
    return {
        "kind": "vdeploy scaling",
        "created": now(),
        "vdeploy": __version__,
        "source": str(source),
        "environment": describe_machine(threads or available_cores()).model_dump(mode="json"),
        "studies": [study.to_dict() for study in studies],
    }


def write_scaling(folder: Path, report: dict[str, Any], studies: Sequence[Study]) -> None:
    """Writes `NUMBERS` and `CHART` into a folder, which is created.

    Args:
        folder: The folder.
        report: The result of `scaling_report`.
        studies: The same studies.

    Raises:
        BenchmarkError: The folder cannot be written.
        MissingExtraError: Matplotlib is not installed.
    """
    try:
        write_json(folder / NUMBERS, report)
        with atomic_write(folder / CHART) as file:
            file.write(_draw(studies))
    except OSError as error:
        raise BenchmarkError(
            f"cannot write to {folder} ({error.strerror or error})", "choose another: --out FOLDER"
        ) from error


def _draw(studies: Sequence[Study]) -> bytes:
    """Draws a panel for each study: throughput with the range of 80 % of the calls, or seconds by data set size."""
    figures: Any = require("matplotlib.figure", extra="report", purpose="drawing a chart")
    figure = figures.Figure(figsize=(4.8 * len(studies), 3.8), layout="constrained")
    for study, axes in zip(studies, figure.subplots(1, len(studies), squeeze=False)[0], strict=True):
        places = [point.value for point in study.points]
        by_time = study.axis == "clips"
        middle = [point.seconds if by_time else point.clips_per_s for point in study.points]
        clips = [point.clips_per_s * point.seconds for point in study.points]
        ends = [(point.p10_seconds, point.p90_seconds) for point in study.points]
        rates = (
            ends if by_time else [(count / low, count / high) for count, (low, high) in zip(clips, ends, strict=True)]
        )
        axes.fill_between(places, *zip(*rates, strict=True), color="#1f5fa8", alpha=0.15, linewidth=0)
        axes.plot(places, middle, color="#1f5fa8", linewidth=2, marker="o")
        axes.set(title=study.what, xlabel=_AXES[study.axis], ylabel="seconds" if by_time else "clips/s")
        axes.set_ylim(bottom=0)
        axes.set_xticks(places)
        axes.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()
