"""TFLite files of both stages: Keras' numbers, the precision that was asked for, and planted faults that are found."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest

from testing.models import build_lstm, vgg19_extractor
from vdeploy.artifacts.bundle import Parity, TensorSpec
from vdeploy.artifacts.bundle.synthetic_frames import synthetic_frames
from vdeploy.core.errors import ParityError
from vdeploy.core.lazy_imports import load_keras
from vdeploy.export.tflite import (
    Metadata,
    classifier_to_tflite,
    extractor_to_tflite,
    found_precision,
    read_metadata,
)
from vdeploy.export.tflite.flatbuffer import load_schema, open_model
from vdeploy.export.verification.parity import check_parity
from vdeploy.features.prediction import predict
from vdeploy.formats import FORMATS
from vdeploy.inference.runtimes.litert import LiteRtRuntime
from vdeploy.models.backbones.vgg19.weights import find_weights
from vdeploy.models.heads.lstm.model import LSTMSettings
from vdeploy.video.clips import ClipSpec

pytestmark = pytest.mark.slow

SIZE, FRAMES, DIM, UNITS = 32, 4, 512, 32
METADATA = Metadata(("non-violent", "violent"), ClipSpec(frames=FRAMES, size=SIZE))
TOLERANCES = {"fp32": 1e-4, "int8": 0.1}
FRAMES_IN = TensorSpec(name="frames", dtype="uint8", shape=("batch", "time", SIZE, SIZE, 3))
FEATURES = TensorSpec(name="features", dtype="float32", shape=("batch", FRAMES, DIM))
PROBABILITIES = TensorSpec(name="probabilities", dtype="float32", shape=("batch", 2))


@dataclasses.dataclass
class Stage:
    """A stage in Keras beside its file in one precision, to be damaged and compared."""

    file: Path
    precision: str
    reference: Callable[[Any], Any]
    inputs: Any
    tensors: tuple[TensorSpec, TensorSpec]

    def parity(self, file: Path) -> Parity:
        kind = dataclasses.replace(FORMATS["onnx-fp32"], name="tflite", tolerance=TOLERANCES[self.precision])
        return check_parity(
            kind, LiteRtRuntime(file), self.reference, self.inputs, tensors=self.tensors, batches=(1, len(self.inputs))
        )

    def refusal(self, fault: Callable[[Any], None], folder: Path) -> str:
        """What parity says about the file with a fault in it."""
        damaged = folder / "model.tflite"
        damaged.write_bytes(edited(self.file, fault))
        with pytest.raises(ParityError) as caught:
            self.parity(damaged)
        return str(caught.value)


def edited(file: Path, change: Callable[[Any], None]) -> bytes:
    model = load_schema().ModelT.InitFromPackedBuf(bytearray(file.read_bytes()), 0)
    change(model)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def weights(model: Any, *shape: int) -> np.ndarray:
    """The one constant of a shape, to be changed in place."""
    types = {load_schema().TensorType.FLOAT32: np.float32, load_schema().TensorType.INT8: np.int8}
    (tensor,) = (
        tensor
        for tensor in model.subgraphs[0].tensors
        if tuple(tensor.shape) == shape and tensor.type in types and model.buffers[tensor.buffer].data is not None
    )
    return model.buffers[tensor.buffer].data.view(types[tensor.type]).reshape(shape)


def operators(file: Path) -> set[str]:
    names = {number: name for name, number in vars(load_schema().BuiltinOperator).items() if isinstance(number, int)}
    model = open_model(file)
    codes = [model.OperatorCodes(index) for index in range(model.OperatorCodesLength())]
    return {names[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())] for code in codes}


def ends(file: Path) -> dict[str, tuple[str, tuple[int, ...], float, int]]:
    """Type, shape, scale and zero point of input and output."""
    runner = LiteRtRuntime(file)._runner
    return {
        name: (np.dtype(value["dtype"]).name, tuple(map(int, value["shape"])), *value["quantization"])
        for name, value in {**runner.get_input_details(), **runner.get_output_details()}.items()
    }


@pytest.fixture(scope="module", params=["fp32", "int8"])
def extractor(request, tmp_path_factory):
    keras = vgg19_extractor("avg", find_weights("random", "avg"), size=SIZE)
    file = tmp_path_factory.mktemp("extractor") / "model.tflite"
    # Dark frames: what the file takes must be the byte itself all the same.
    frames = synthetic_frames(8, FRAMES, SIZE) // 2
    extractor_to_tflite(keras, file, METADATA, iter(frames) if request.param == "int8" else None)
    return Stage(file, request.param, keras.extract, frames[:3], (FRAMES_IN, FEATURES))


@pytest.fixture(scope="module", params=["fp32", "int8"])
def classifier(request, tmp_path_factory):
    load_keras().utils.set_random_seed(0)
    model = build_lstm(FRAMES, DIM, LSTMSettings(pooling="mean", units=UNITS))
    # Louder than at the start of a training, or the answer hardly depends on the gates.
    model.set_weights([3 * value for value in model.get_weights()])
    features = np.random.default_rng(0).gamma(0.5, size=(40, FRAMES, DIM)).astype(np.float32)
    file = tmp_path_factory.mktemp("classifier") / "model.tflite"
    calibration = iter(features) if request.param == "int8" else None
    classifier_to_tflite(model, file, METADATA, calibration)
    return Stage(file, request.param, lambda rows: predict(model, rows), features[:16], (FEATURES, PROBABILITIES))


def check_file(stage: Stage) -> None:
    assert stage.parity(stage.file).max_rel <= TOLERANCES[stage.precision]
    assert found_precision(stage.file) == stage.precision
    assert read_metadata(stage.file) == METADATA
    assert not {"WHILE", "IF", "CALL", "CUSTOM"} & operators(stage.file)
    assert open_model(stage.file).SubgraphsLength() == 1
    assert [file.name for file in stage.file.parent.iterdir()] == ["model.tflite"]


def test_the_extractor_is_right(extractor):
    check_file(extractor)
    scale = 1.0 if extractor.precision == "int8" else 0.0
    assert ends(extractor.file) == {
        "frames": ("uint8", (1, 1, SIZE, SIZE, 3), scale, 0),
        "features": ("float32", (1, 1, DIM), 0.0, 0),
    }
    assert (extractor.file.stat().st_size < 25e6) == (extractor.precision == "int8")


def test_the_extractor_takes_any_number_of_frames(extractor):
    runtime = LiteRtRuntime(extractor.file)
    whole = runtime.infer({"frames": extractor.inputs})["features"]
    assert whole.shape == (3, FRAMES, DIM)
    part = runtime.infer({"frames": extractor.inputs[1:2, 1:3]})["features"]
    np.testing.assert_array_equal(part, whole[1:2, 1:3])


def test_the_classifier_is_right(classifier):
    check_file(classifier)
    kinds = [(kind, shape) for kind, shape, *_ in ends(classifier.file).values()]
    assert kinds == [("float32", (1, FRAMES, DIM)), ("float32", (1, 2))]


def test_swapped_colour_channels_are_found(extractor, tmp_path):
    def fault(model):
        kernel = weights(model, 64, 3, 3, 3)
        kernel[:] = kernel[..., ::-1].copy()

    assert "features differs from Keras by" in extractor.refusal(fault, tmp_path)


def test_a_wrong_mean_is_found(extractor, tmp_path):
    def fault(model):
        weights(model, 3)[:] = 0

    assert "features differs from Keras by" in extractor.refusal(fault, tmp_path)


@pytest.mark.parametrize("gates", [(0, 1, 3, 2), (1, 0, 2, 3), (3, 2, 1, 0)])
def test_swapped_lstm_gates_are_found(classifier, tmp_path, gates):
    def fault(model):
        for width in (UNITS, DIM):
            kernel = weights(model, 4 * UNITS, width)
            kernel[:] = kernel.reshape(4, UNITS, width)[list(gates)].reshape(kernel.shape)

    assert "probabilities differs from Keras by" in classifier.refusal(fault, tmp_path)


def test_transposed_recurrent_weights_are_found(classifier, tmp_path):
    def fault(model):
        kernel = weights(model, 4 * UNITS, UNITS).reshape(4, UNITS, UNITS)
        kernel[:] = kernel.transpose(0, 2, 1).copy()

    assert "probabilities differs from Keras by" in classifier.refusal(fault, tmp_path)
