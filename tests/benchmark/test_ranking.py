"""Which rows a page shows first."""

from __future__ import annotations

import pytest

from tests.benchmark.records import make_benchmark, make_row
from vdeploy.benchmark.report.ranking import (
    fastest,
    latency_front,
    most_telling,
    precision_family,
    quality,
    reference_name,
    times_reference,
)
from vdeploy.core.errors import BenchmarkError


def timed(name, rate, **values):
    return make_row(name=name, windows_ms=(1000 / rate,) * 5, clips_per_s=rate, **values)


INT8 = timed("onnx-int8", 4.0, precision="int8")
FP32 = timed("onnx-fp32", 1.0)
MIXED = timed("onnx-fp16", 1.5, precision="fp16: weights only")
KERAS = timed("TensorFlow, model.predict", 0.8, peer=True)
RESTLESS = timed("tflite-int8", 9.0, precision="int8", settled=False)
ABSENT = make_row(name="tensorrt-int8", precision="int8", status="absent")
ROWS = (FP32, ABSENT, RESTLESS, INT8, KERAS, MIXED)


def test_the_fastest_row_has_settled():
    assert fastest(ROWS) is INT8
    assert fastest([RESTLESS, ABSENT]) is None


def test_the_family_is_the_precision_without_the_detail():
    assert precision_family(MIXED) == "fp16"


def test_the_reference_is_what_most_programs_do():
    assert reference_name(make_benchmark(ROWS)) == "TensorFlow, model.predict"
    assert reference_name(make_benchmark([FP32, INT8])) == "onnx-fp32"
    assert reference_name(make_benchmark([timed("something", 1), INT8])) == "something"
    assert reference_name(make_benchmark([INT8, ABSENT])) is None
    assert reference_name(make_benchmark(ROWS), "onnx-int8") == "onnx-int8"
    with pytest.raises(
        BenchmarkError, match=r"no row is called 'tflite-int8'; compare with one of: onnx-fp32; onnx-int8;"
    ):
        reference_name(make_benchmark(ROWS), "tflite-int8")
    with pytest.raises(BenchmarkError, match="compare with one of: none"):
        reference_name(make_benchmark([ABSENT]), "onnx-int8")


def test_a_ratio_is_of_the_same_work_and_batch():
    assert times_reference(INT8, ROWS, "onnx-fp32") == pytest.approx(4)
    for other in ({"batch": 8}, {"what": "video"}):
        assert times_reference(timed("onnx-int8", 4.0, **other), ROWS, "onnx-fp32") is None
    assert times_reference(RESTLESS, ROWS, "onnx-fp32") is None
    assert times_reference(INT8, ROWS, "tflite-int8") is None
    assert times_reference(INT8, ROWS, None) is None


def test_what_says_most_of_the_whole_is_told_first():
    video, classifier = timed("a", 1, what="video"), timed("a", 1, what="classifier")
    assert most_telling([classifier, video]) == "video"
    assert most_telling([classifier, video, FP32]) == "pipeline"
    assert most_telling([RESTLESS, ABSENT]) is None


def test_quality_is_accuracy_where_there_is_one():
    judged, agreed = timed("a", 1, accuracy=0.9, agreement=1.0), timed("b", 1, agreement=0.98)
    assert quality([judged, agreed, FP32]) == ("accuracy", {judged: 0.9})
    assert quality([agreed, FP32]) == ("agreement", {agreed: 0.98})
    assert quality([FP32]) == ("agreement", {})
    assert quality([agreed, FP32], one_model=False) == ("accuracy", {})


def test_nothing_on_the_front_is_beaten_in_both():
    quick, middle, slow, beaten, equal = (
        timed(name, rate) for name, rate in zip("abcde", (9, 5, 1, 4, 0.5), strict=True)
    )
    assert latency_front({slow: 0.96, beaten: 0.9, equal: 0.96, middle: 0.95, quick: 0.9}) == [quick, middle, slow]
    assert latency_front({}) == []
