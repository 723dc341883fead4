"""The script that prints the ratios: which rows it compares, and how it ends."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from testing.tiny_bundle import make_tiny_bundle
from tests.benchmark.test_record import row

FILE = Path(__file__).parents[2] / "benchmarks" / "inference.py"


@pytest.fixture(scope="module")
def inference():
    spec = importlib.util.spec_from_file_location("inference_benchmark", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


class Rows:
    def __init__(self, *rows):
        self.rows = rows


def test_the_right_rows_are_compared(inference):
    openvino = {"runtime": "openvino", "peer": True, "settled": True}
    measured = Rows(
        row(name="onnx-fp32", precision="fp32", p50_ms=1400.0, settled=True),
        row(name="tflite-fp32", precision="fp32", p50_ms=1300.0, settled=True, runtime="litert"),
        row(name="onnx-int8", p50_ms=350.0, settled=True),
        row(name="OpenVINO, onnx-fp32", precision="fp32", p50_ms=1235.0, **openvino),
        row(name="OpenVINO, onnx-int8", p50_ms=385.0, **openvino),
        row(name="predict", precision="fp32", p50_ms=1050.0, runtime="tensorflow-predict", peer=True),
        row(name="never", status="absent"),
        row(what="video", name="onnx-int8", p50_ms=1.0),
    )
    found = inference.ratios(measured)
    assert [(one.rows, round(one.value, 3), one.met, one.settled) for one in found] == [
        (("onnx-int8", "onnx-fp32"), 4.0, True, True),
        (("onnx-int8", "onnx-fp32"), 4.0, True, True),
        (("tflite-fp32", "predict"), 0.808, False, False),
        (("onnx-int8", "OpenVINO, onnx-int8"), 1.1, True, True),
        (("onnx-int8", "predict"), 3.0, False, False),
    ]


def test_a_runtime_is_not_compared_with_itself(inference):
    measured = Rows(
        row(name="openvino-int8", p50_ms=320.0, settled=True, runtime="openvino"),
        row(name="OpenVINO, onnx-int8", p50_ms=310.0, settled=True, runtime="openvino", peer=True),
        row(name="tflite-int8", p50_ms=340.0, settled=True, runtime="litert"),
        row(name="onnx-int8", p50_ms=350.0, settled=True),
        row(name="openvino-fp32", precision="fp32", p50_ms=1200.0, settled=True, runtime="openvino"),
    )
    (found,) = inference.ratios(measured)
    assert (found.name, found.rows) == ("best INT8 to the best other runtime's", ("openvino-int8", "tflite-int8"))
    assert found.value == pytest.approx(340 / 320)


def test_what_is_not_there_is_not_compared(inference):
    assert inference.ratios(Rows(row(name="onnx-fp32", precision="fp32", p50_ms=1.0))) == []


@pytest.mark.slow
def test_it_measures_a_bundle_and_says_how_it_went(inference, tmp_path, capsys):
    bundle = make_tiny_bundle(tmp_path / "bundle")
    out = tmp_path / "benchmark.json"
    arguments = [str(bundle.root), "--seconds", "0", "--peers", "tensorflow-predict", "--json", "--out", str(out)]
    assert inference.main(arguments) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert json.loads(out.read_text())["rows"][0]["what"] == "pipeline"
    assert inference.main([str(tmp_path / "nothing")]) == 2
    assert "is no bundle" in capsys.readouterr().err
