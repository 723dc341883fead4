"""The table: ranked within a stage and batch, ratios to the reference, and remarks where a row has no rank."""

from __future__ import annotations

import pytest

from tests.benchmark.records import ENVIRONMENT, make_benchmark
from tests.benchmark.test_record import row
from vdeploy.benchmark.record import Benchmark, Shares
from vdeploy.benchmark.report.table import COLUMNS, choose_reference, ranked_rows, table_rows, title_of
from vdeploy.core.errors import BenchmarkError

ROWS = (
    row(name="onnx-fp32", clips_per_s=2.0, p50_ms=500.0, settled=True, accuracy=0.97, held_out_from="manifest"),
    row(name="gone", status="absent", reason="no GPU"),
    row(name="shaky", clips_per_s=9.0, p50_ms=111.0, spread=0.4),
    row(name="onnx-int8", clips_per_s=7.0, p50_ms=142.857, settled=True, gflops=1500.0, peak_share=0.8),
    row(name="onnx-int8", batch=8, clips_per_s=8.0, p50_ms=1000.0, settled=True),
    row(what="video", where="h:1", clips_per_s=1.0, settled=True, shares=Shares(decode=0.25, transport=0.75)),
)


@pytest.fixture
def benchmark() -> Benchmark:
    environment = ENVIRONMENT.model_copy(update={"cpu": "C", "threads": 1})
    return make_benchmark(ROWS, bundle="b", environment=environment, peaks=())


def test_the_fastest_is_first_and_unranked_rows_are_last():
    ranked = [(place, one.name, one.batch) for place, one in ranked_rows(ROWS)]
    assert ranked == [
        (1, "onnx-int8", 1),
        (2, "onnx-fp32", 1),
        (None, "shaky", 1),
        (None, "gone", 1),
        (1, "onnx-int8", 8),
        (1, "onnx-int8", 1),
    ]


def test_cells_are_what_the_columns_say(benchmark):
    cells = [dict(zip(COLUMNS, line, strict=True)) for line in table_rows(benchmark, "onnx-fp32")]
    assert [line["ratio"] for line in cells] == ["3.50", "1.00", None, None, None, None]
    assert (cells[0]["GFLOP/s"], cells[0]["of peak"], cells[0]["p50 ms"]) == ("1500", "80%", "142.86")
    assert cells[1]["accuracy"] == "97.0%"
    assert [line["remark"] for line in cells] == [
        *("", "", "did not settle, spread 40%", "absent: no GPU", "", "decode 25%, transport 75%")
    ]
    assert cells[-1]["name"] == "onnx-int8 at h:1"


def test_the_reference_is_the_wanted_one_or_the_first_in_full_precision(benchmark):
    assert choose_reference(benchmark, None) == "onnx-fp32"
    assert choose_reference(benchmark, "shaky") == "shaky"
    with pytest.raises(BenchmarkError, match="no row is called 'gone'; compare with one of: onnx-fp32; shaky; "):
        choose_reference(benchmark, "gone")
    assert choose_reference(benchmark.model_copy(update={"rows": ROWS[1:2]}), None) == ""


def test_the_title_says_what_the_figures_refer_to(benchmark):
    assert title_of(benchmark, "onnx-fp32") == (
        "b on 2 cores of C, 1 threads; measured peak GFLOP/s: ; ratio to onnx-fp32; accuracy from: manifest"
    )
