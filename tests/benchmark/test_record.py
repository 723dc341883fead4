"""The file: written and read back whole; what is none, or is newer, is told in one line."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from tests.benchmark.records import make_benchmark
from vdeploy.benchmark.record import Benchmark, Peak, Row, Shares, load_benchmark, save_benchmark
from vdeploy.core.errors import BenchmarkError


def row(**values: Any) -> Row:
    common = {
        "what": "pipeline",
        "where": "in process",
        "name": "onnx-int8",
        "format": "onnx-int8",
        "precision": "int8",
        "runtime": "onnxruntime",
        "batch": 1,
        "threads": 2,
        "status": "ok",
    }
    return Row.model_validate({**common, **values})


@pytest.fixture
def benchmark() -> Benchmark:
    rows = (
        row(p50_ms=1.5, windows_ms=(1.4, 1.6), settled=True, spread=0.03, shares=Shares(decode=0.1, extract=0.9)),
        row(name="tensorrt-int8", format="tensorrt-int8", status="absent", reason="no GPU"),
    )
    return make_benchmark(rows, peaks=(Peak(data_type="fp32", gflops=500.0, how="a product"),))


def test_what_was_written_is_read(benchmark, tmp_path):
    save_benchmark(tmp_path / "deep" / "benchmark.json", benchmark)
    assert load_benchmark(tmp_path / "deep" / "benchmark.json") == benchmark


def test_a_row_that_did_not_settle_or_run_is_not_ranked(benchmark):
    assert [each.ranked for each in benchmark.rows] == [True, False]
    assert not row(p50_ms=1.0).ranked


def test_rows_are_the_same_measurement_whatever_the_port():
    served = row(where="127.0.0.1:8001", transport="grpc")
    assert served.key == row(where="127.0.0.1:9001", transport="grpc", p50_ms=3.0).key
    assert served.key != row(where="127.0.0.1:8001", transport="shared memory").key
    assert served.key != row(transport="grpc").key


def test_a_peak_is_found_by_its_type(benchmark):
    assert benchmark.peak("fp32") == benchmark.peaks[0]
    assert benchmark.peak("int8") is None


def test_an_unknown_field_is_a_mistake():
    with pytest.raises(ValidationError):
        row(p50=1.0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is no JSON"),
        ("[]", "is no benchmark"),
        ('{"schema_version": "1.1", "artifacts": []}', "is no benchmark"),
        ('{"kind": "vdeploy benchmark", "schema_version": "1.3"}', "has schema version 1.3, this vdeploy reads 1.2"),
        ('{"kind": "vdeploy benchmark", "schema_version": "12.0"}', "use the vdeploy that wrote it"),
        ('{"kind": "vdeploy benchmark", "schema_version": "1.0"}', "created: Field required; measure again"),
    ],
)
def test_a_foreign_a_newer_and_a_broken_file_are_told_apart(tmp_path, content, message):
    file = tmp_path / "benchmark.json"
    file.write_text(content)
    with pytest.raises(BenchmarkError, match=r"benchmark\.json") as caught:
        load_benchmark(file)
    assert message in str(caught.value)


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(BenchmarkError, match="No such file or directory"):
        load_benchmark(tmp_path / "nothing.json")


def test_a_damaged_row_is_named(benchmark, tmp_path):
    values = benchmark.model_dump(mode="json")
    values["rows"][1]["batch"] = "many"
    (tmp_path / "b.json").write_text(json.dumps(values))
    with pytest.raises(BenchmarkError, match=r"rows\.1\.batch"):
        load_benchmark(tmp_path / "b.json")
