"""Benchmarks for the tests of what is made of them: no machine, no noise but what a test asks for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from vdeploy.benchmark.record import Benchmark, Environment, Peak, Row

ENVIRONMENT = Environment(
    cpu="Some CPU",
    cores=2,
    threads=2,
    clocks_mhz=(2600.0, 2601.5),
    memory_bytes=1 << 34,
    gpu=None,
    driver=None,
    system="Linux",
    python="3.11.2",
    versions={"onnxruntime": "1.30", "tensorflow-cpu": "2.21.0"},
    load_average=(0.1, 0.2, 0.3),
)

PEAKS = (
    Peak(data_type="fp32", gflops=400.0, how="a product of matrices"),
    Peak(data_type="int8", gflops=1600.0, how="a convolution"),
)


def make_row(**values: Any) -> Row:
    """A row of `onnx-fp32`; with windows, it is measured and has settled."""
    windows = values.get("windows_ms", ())
    common = {
        "what": "pipeline",
        "where": "in process",
        "name": values.get("format", "onnx-fp32"),
        "format": "onnx-fp32",
        "precision": "fp32",
        "runtime": "onnxruntime",
        "batch": 1,
        "threads": 2,
        "status": "ok",
        "settled": bool(windows),
        "p50_ms": float(np.median(windows)) if windows else None,
    }
    return Row.model_validate({**common, **values})


def make_benchmark(rows: Iterable[Row], **values: Any) -> Benchmark:
    """A benchmark of a bundle that does not exist."""
    common = {
        "created": "2026-01-01T00:00:00+00:00",
        "command": "vdeploy benchmark bundles/mine",
        "vdeploy_version": "0.1.0",
        "bundle": "bundles/mine",
        "run": "mine",
        "sha256": {"classifier": "0" * 64},
        "clip_frames": 16,
        "clip_size": 224,
        "layer": "avg",
        "environment": ENVIRONMENT,
        "peaks": PEAKS,
        "rows": tuple(rows),
    }
    return Benchmark.model_validate({**common, **values})


def steady(middle: float, count: int = 12, spread: float = 0.01, seed: int = 0) -> tuple[float, ...]:
    """Medians of windows that scatter independently: log-normal around ``middle`` milliseconds."""
    random: npt.NDArray[np.float64] = np.random.default_rng(seed).standard_normal(count)
    return tuple(float(value) for value in middle * np.exp(spread * random))
