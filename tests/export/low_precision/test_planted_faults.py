"""A fault in an exporter of a lower precision is larger than what the precision itself costs, and parity finds it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from testing.models import build_lstm
from tests.export.low_precision.conftest import skip_where_sums_are_cut_off
from vdeploy.artifacts.bundle import TensorSpec
from vdeploy.core.errors import ParityError
from vdeploy.core.lazy_imports import load_keras
from vdeploy.export.onnx.convert import classifier_to_onnx
from vdeploy.export.onnx.float16 import to_float16
from vdeploy.export.quantization import TENSORRT, cpu_flavour
from vdeploy.export.quantization.histograms import collect_histograms
from vdeploy.export.quantization.qdq import tensors_to_calibrate, write_qdq
from vdeploy.export.quantization.ranges import min_max
from vdeploy.export.verification.parity import check_parity
from vdeploy.features.prediction import predict
from vdeploy.formats import FORMATS
from vdeploy.inference.runtimes.onnxruntime import OnnxRuntime
from vdeploy.models.heads.lstm.model import LSTMSettings

pytestmark = pytest.mark.slow

TOLERANCES = {"onnx-fp16": 5e-3, "onnx-int8": 0.1, "tensorrt-int8": 0.1}


def weights_of(model: onnx.ModelProto, name: str) -> np.ndarray:
    return numpy_helper.to_array(next(tensor for tensor in model.graph.initializer if tensor.name == name))


def put_weights(model: onnx.ModelProto, name: str, value: np.ndarray) -> None:
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value), name))


def nothing(model):
    """No fault at all."""


def swapped_channels(model):
    put_weights(model, "block1_conv1/kernel", weights_of(model, "block1_conv1/kernel")[:, ::-1])


def wrong_mean(model):
    put_weights(model, "mean", weights_of(model, "mean") / 255)


def transposed_gates(model):
    blocks = np.split(weights_of(model, "lstm/2"), 4, axis=1)
    put_weights(model, "lstm/2", np.concatenate([block.transpose(0, 2, 1) for block in blocks], axis=1))


def swapped_gates(model):
    for name in ("lstm/1", "lstm/2"):
        one, two, three, four = np.split(weights_of(model, name), 4, axis=1)
        put_weights(model, name, np.concatenate([one, three, two, four], axis=1))


@pytest.fixture(params=TOLERANCES)
def check(request, tmp_path):
    """Plants a fault in an exporter's float graph, takes it to a lower precision, and compares the file with Keras."""
    kind = dataclasses.replace(FORMATS["onnx-fp32"], name=request.param, tolerance=TOLERANCES[request.param])

    def lower(model: onnx.ModelProto, stage) -> onnx.ModelProto:
        if request.param == "onnx-fp16":
            return to_float16(model)
        flavour = cpu_flavour() if request.param == "onnx-int8" else TENSORRT
        if stage.name == "classifier":  # convolutions for TensorRT run in float here
            skip_where_sums_are_cut_off(flavour)
        histograms = collect_histograms(model, tensors_to_calibrate(model), stage.feeds())
        return write_qdq(model, flavour, {name: min_max(value, flavour) for name, value in histograms.items()})

    def run(stage, fault: Callable[[onnx.ModelProto], None]) -> None:
        model = onnx.ModelProto()
        model.CopyFrom(stage.model)
        fault(model)
        onnx.save(lower(model, stage), tmp_path / "model.onnx")
        check_parity(
            kind,
            OnnxRuntime(tmp_path / "model.onnx", threads=2),
            lambda inputs: stage.expected[: len(inputs)],
            stage.inputs,
            tensors=(
                TensorSpec(name=stage.source, dtype="float32", shape=stage.inputs.shape),
                TensorSpec(name=stage.target, dtype="float32", shape=stage.expected.shape),
            ),
        )

    return run


def test_without_a_fault_it_passes(check, stage):
    check(stage, nothing)


@pytest.mark.parametrize("fault", [swapped_channels, wrong_mean], ids=lambda fault: fault.__name__)
def test_a_faulty_extractor_is_found(check, extractor_stage, fault):
    with pytest.raises(ParityError, match="features differs from Keras by"):
        check(extractor_stage, fault)


@pytest.fixture(scope="module")
def last_output_stage(classifier_stage):
    """A classifier of the LSTM's last output, on which its recurrent weights have the largest influence."""
    load_keras().utils.set_random_seed(0)
    classifier = build_lstm(*classifier_stage.inputs.shape[1:], LSTMSettings(pooling="last"))
    for name, factor in (("lstm", 3), ("logits", 6)):
        layer = classifier.get_layer(name)
        layer.set_weights([factor * value for value in layer.get_weights()])
    expected = predict(classifier, classifier_stage.inputs)
    return dataclasses.replace(classifier_stage, model=classifier_to_onnx(classifier), expected=expected)


def test_the_classifier_of_the_last_output_passes_without_a_fault(check, last_output_stage):
    check(last_output_stage, nothing)


@pytest.mark.parametrize("fault", [transposed_gates, swapped_gates], ids=lambda fault: fault.__name__)
def test_a_faulty_lstm_is_found(check, last_output_stage, fault):
    with pytest.raises(ParityError, match="probabilities differs from Keras by"):
        check(last_output_stage, fault)
