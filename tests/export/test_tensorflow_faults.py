"""Parity and inspection find what can go wrong in a TFLite file: one planted fault a test, put into a right file."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest

from training.classifier import build_classifier
from training.clips import ClipSpec
from training.extractor import FeatureExtractor
from training.recipe import ModelSection
from training.trainer import predict
from training.weights import find_weights
from vdeploy.bundle import Parity, TensorSpec
from vdeploy.errors import ParityError
from vdeploy.export.parity import check_parity, synthetic_frames
from vdeploy.export.tflite import Metadata, Quantization, classifier_to_tflite, extractor_to_tflite, found_precision
from vdeploy.export.tflite.flatbuffer import load_schema
from vdeploy.formats import FORMATS
from vdeploy.runtimes.litert import LiteRtRuntime

SIZE, FRAMES, DIM, UNITS = 32, 4, 512, 32
TOLERANCES = {"fp32": 1e-4, "int8": 0.1}


class Bench:
    """A stage in Keras beside its right file in one precision, to be damaged and compared."""

    def __init__(self, stage: str, precision: str, folder: Path) -> None:
        self.file = folder / "model.tflite"
        self.right = folder / "right.tflite"
        self.kind = dataclasses.replace(
            FORMATS["onnx-fp32"], name=f"tflite-{precision}", tolerance=TOLERANCES[precision]
        )
        metadata = Metadata(("non-violent", "violent"), ClipSpec(frames=FRAMES, size=SIZE))
        if stage == "extractor":
            extractor = FeatureExtractor("avg", find_weights("random", "avg"), size=SIZE)
            self.inputs: Any = synthetic_frames(3, FRAMES, SIZE)
            self.reference = extractor.extract
            self.tensors = _tensors(("frames", "uint8", self.inputs), ("features", (3, FRAMES, DIM)))
            extractor_to_tflite(extractor, self.right, metadata, self._quantization(precision))
        else:
            model = build_classifier(FRAMES, DIM, ModelSection(units=UNITS))
            # Louder than at the start of a training, or the answer hardly depends on the gates.
            model.set_weights([3 * weights for weights in model.get_weights()])
            self.inputs = np.random.default_rng(0).gamma(0.5, size=(3, FRAMES, DIM)).astype(np.float32)
            self.reference = lambda features: predict(model, features)
            self.tensors = _tensors(("features", "float32", self.inputs), ("probabilities", (3, 2)))
            classifier_to_tflite(model, self.right, metadata, self._quantization(precision))

    def _quantization(self, precision: str) -> Quantization | None:
        return Quantization(iter(self.inputs)) if precision == "int8" else None

    def check(self, fault: Callable[[Any], None] = lambda _model: None) -> Parity:
        model = load_schema().ModelT.InitFromPackedBuf(bytearray(self.right.read_bytes()), 0)
        fault(model)
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
        self.file.write_bytes(builder.Output())
        return check_parity(self.kind, LiteRtRuntime(self.file), self.reference, self.inputs, tensors=self.tensors)

    def refusal(self, fault: Callable[[Any], None]) -> str:
        with pytest.raises(ParityError) as caught:
            self.check(fault)
        return str(caught.value)


def _tensors(source: tuple[str, Any, Any], target: tuple[str, Any]) -> tuple[TensorSpec, TensorSpec]:
    name, dtype, array = source
    return (
        TensorSpec(name=name, dtype=dtype, shape=array.shape),
        TensorSpec(name=target[0], dtype="float32", shape=target[1]),
    )


@pytest.fixture(scope="module", params=["fp32", "int8"])
def extractor(request, tmp_path_factory):
    return Bench("extractor", request.param, tmp_path_factory.mktemp("extractor"))


@pytest.fixture(scope="module", params=["fp32", "int8"])
def classifier(request, tmp_path_factory):
    return Bench("classifier", request.param, tmp_path_factory.mktemp("classifier"))


def weights(model: Any, *shape: int) -> np.ndarray:
    """The one constant of a shape, to be changed in place."""
    numbers = load_schema().TensorType
    (tensor,) = (
        tensor
        for tensor in model.subgraphs[0].tensors
        if tuple(tensor.shape) == shape and model.buffers[tensor.buffer].data is not None
    )
    dtype = {numbers.FLOAT32: np.float32, numbers.INT8: np.int8}[tensor.type]
    return model.buffers[tensor.buffer].data.view(dtype).reshape(shape)


def test_right_files_pass(extractor, classifier):
    for bench in (extractor, classifier):
        assert 0 < bench.check().max_rel <= bench.kind.tolerance


def test_swapped_colour_channels_are_found(extractor):
    def fault(model):
        kernel = weights(model, 64, 3, 3, 3)
        kernel[:] = kernel[..., ::-1].copy()

    assert "features differs from Keras by" in extractor.refusal(fault)


def test_a_wrong_mean_is_found(extractor):
    def fault(model):
        mean = weights(model, 3)
        mean[:] = mean[::-1].copy()
        mean[0] = 0

    assert "features differs from Keras by" in extractor.refusal(fault)


@pytest.mark.parametrize("gates", [(0, 1, 3, 2), (1, 0, 2, 3), (3, 2, 1, 0)])
def test_swapped_lstm_gates_are_found(classifier, gates):
    def fault(model):
        for width in (UNITS, DIM):
            kernel = weights(model, 4 * UNITS, width)
            kernel[:] = kernel.reshape(4, UNITS, width)[list(gates)].reshape(kernel.shape)

    assert "probabilities differs from Keras by" in classifier.refusal(fault)


def test_transposed_recurrent_weights_are_found(classifier):
    def fault(model):
        kernel = weights(model, 4 * UNITS, UNITS).reshape(4, UNITS, UNITS)
        kernel[:] = kernel.transpose(0, 2, 1).copy()

    assert "probabilities differs from Keras by" in classifier.refusal(fault)


def test_a_float_network_passed_as_int8_is_found(tmp_path):
    bench = Bench("classifier", "fp32", tmp_path)
    assert bench.check().max_rel < TOLERANCES["int8"], "parity cannot tell: too good is no fault"
    assert found_precision(bench.right) == "fp32"
