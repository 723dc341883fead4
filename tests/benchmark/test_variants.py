"""What the comparison of a model, its pruned form and its student keeps of a row, and prints."""

from __future__ import annotations

from benchmarks.variants import _line, _row
from tests.benchmark.records import make_row


def test_a_row_is_told_with_its_model_and_where_it_runs() -> None:
    figures = {"windows_ms": (20.0,), "clips_per_s": 50.0, "size_bytes": 8_000_000}
    row = _row("pruned", make_row(where="127.0.0.1:8001", transport="grpc", **figures))
    assert (row["model"], row["format"], row["served"], row["p50_ms"]) == ("pruned", "onnx-fp32", True, 20.0)
    assert " ".join(_line(row).split()) == ("pruned onnx-fp32 served 20.0 ms a clip 8.0 MB")
    restless = _row("pruned", make_row(settled=False, **figures))
    assert not restless["served"]
    assert "did not settle" in _line(restless)


def test_what_was_not_measured_is_told_with_the_reason() -> None:
    row = _row("student", make_row(status="absent", reason="no Triton is installed"))
    assert _line(row).endswith("absent: no Triton is installed")
