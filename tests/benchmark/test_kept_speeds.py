"""What a benchmark keeps for the choice of a format: comparable rows, outside the bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from testing.format_copies import with_formats
from testing.tiny_bundle import make_tiny_bundle
from tests.benchmark.records import ENVIRONMENT, make_benchmark, make_row, steady
from vdeploy.artifacts.bundle import Bundle
from vdeploy.benchmark.bundle_benchmark import benchmark_bundle
from vdeploy.benchmark.kept_speeds import keep_speeds
from vdeploy.benchmark.plan import Plan
from vdeploy.benchmark.record import Benchmark, Row
from vdeploy.inference.format_speeds import load_speeds
from vdeploy.inference.runtimes.base import available_cores

CORES = available_cores()


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    monkeypatch.setenv("VDEPLOY_CACHE", str(tmp_path / "cache"))
    return with_formats(make_tiny_bundle(tmp_path / "bundle"), "onnx-int8", "openvino-int8")


def row(name: str, milliseconds: float, **values: Any) -> Row:
    common = {"threads": CORES, "windows_ms": steady(milliseconds)}
    return make_row(format=name, precision=name.rpartition("-")[2], **{**common, **values})


def measured(bundle: Bundle, *rows: Row) -> Benchmark:
    sha256 = {f"{artifact.stage}/{artifact.format}": artifact.sha256 for artifact in bundle.manifest.artifacts}
    environment = ENVIRONMENT.model_copy(update={"cores": CORES, "threads": CORES})
    return make_benchmark(rows, sha256=sha256, environment=environment)


def kept(bundle: Bundle) -> dict[str, list[str]]:
    return {precision: sorted(found.clip_ms) for precision, found in load_speeds(bundle).comparisons.items()}


def test_formats_of_a_precision_are_kept_outside_the_bundle(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    files = sorted(bundle.root.rglob("*"))
    keep_speeds(bundle.root, measured(bundle, row("onnx-int8", 607), row("openvino-int8", 163), row("onnx-fp32", 900)))
    assert kept(bundle) == {"int8": ["onnx-int8", "openvino-int8"]}
    (comparison,) = load_speeds(bundle).comparisons.values()
    assert comparison.clip_ms["onnx-int8"] == pytest.approx(607, rel=0.02)
    assert "speeds: openvino-int8: 163 ms, onnx-int8: 60" in capsys.readouterr().err
    assert sorted(bundle.root.rglob("*")) == files


@pytest.mark.parametrize(
    "values",
    [
        {"what": "extractor"},
        {"where": "127.0.0.1:8001"},
        {"peer": True},
        {"batch": 8},
        {"threads": CORES + 1},
        {"device": "gpu"},
        {"status": "error", "p50_ms": None},
    ],
    ids=lambda values: next(iter(values)),
)
def test_other_rows_do_not_count(bundle: Bundle, values: dict[str, Any]) -> None:
    keep_speeds(bundle.root, measured(bundle, row("onnx-int8", 607), row("openvino-int8", 163, **values)))
    assert kept(bundle) == {}


def test_a_row_that_has_not_settled_counts_where_it_is_clear(
    bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    restless = row("onnx-int8", 300, settled=False, windows_ms=(100.0, 300.0, 600.0))
    keep_speeds(bundle.root, measured(bundle, restless, row("openvino-int8", 163)))
    assert kept(bundle) == {}
    assert "nothing is kept of int8, as onnx-int8 did not settle; try more --seconds" in capsys.readouterr().err
    slow = row("onnx-int8", 700, settled=False, windows_ms=(500.0, 700.0, 900.0))
    keep_speeds(bundle.root, measured(bundle, slow, row("openvino-int8", 163)))
    assert kept(bundle) == {"int8": ["onnx-int8", "openvino-int8"]}


def test_one_precision_does_not_replace_another(bundle: Bundle) -> None:
    keep_speeds(bundle.root, measured(bundle, row("onnx-int8", 607), row("openvino-int8", 163)))
    keep_speeds(bundle.root, measured(bundle, row("onnx-fp32", 900), row("tflite-fp32", 1000)))
    assert kept(bundle) == {"int8": ["onnx-int8", "openvino-int8"], "fp32": ["onnx-fp32", "tflite-fp32"]}
    keep_speeds(bundle.root, measured(bundle, row("onnx-int8", 500)))  # compared with nothing
    assert kept(bundle)["int8"] == ["onnx-int8", "openvino-int8"]


def test_a_bundle_that_has_changed_meanwhile(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    benchmark = measured(bundle, row("onnx-int8", 607), row("openvino-int8", 163))
    with_formats(bundle, "onnx-fp16")
    keep_speeds(bundle.root, benchmark)
    assert kept(Bundle(bundle.root)) == {}
    assert f"{bundle.root} has changed since the benchmark began" in capsys.readouterr().err


def test_a_cache_that_cannot_be_written(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (bundle.root.parent / "cache").touch()  # a file, so that no folder can be made of it
    keep_speeds(bundle.root, measured(bundle, row("onnx-int8", 607), row("openvino-int8", 163)))
    assert "cannot be written" in (said := capsys.readouterr().err)
    assert "set VDEPLOY_CACHE to a writable folder" in said
    assert "choose by that" not in said


@pytest.mark.slow
def test_a_real_benchmark_is_of_the_bundle(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    result = benchmark_bundle(bundle.root, Plan(("pipeline",), formats=("onnx-fp32", "onnx-int8"), seconds=0))
    rows = [
        one.model_copy(update={"format": name, "settled": True})
        for one, name in zip(result.rows, ("onnx-int8", "openvino-int8"), strict=True)
    ]
    keep_speeds(bundle.root, result.model_copy(update={"rows": tuple(rows)}))
    assert kept(bundle) == {"int8": ["onnx-int8", "openvino-int8"]}
    assert "speeds: " in capsys.readouterr().err
