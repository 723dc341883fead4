"""Parity finds what can go wrong between Keras and a file: one planted fault a test."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from vdeploy.artifacts.bundle import Bundle, Parity, Stage
from vdeploy.artifacts.bundle.synthetic_frames import synthetic_frames
from vdeploy.core.errors import ParityError
from vdeploy.export.verification.parity import check_parity
from vdeploy.features.prediction import predict
from vdeploy.formats import FORMATS, Format
from vdeploy.inference.runtimes.onnxruntime import OnnxRuntime

if TYPE_CHECKING:
    from vdeploy.artifacts.run import Run

KIND = FORMATS["onnx-fp32"]
SIZE, FRAMES = 32, 4


def leave(model: onnx.ModelProto) -> None:
    """No fault at all."""


class Bench:
    """The exported stages of a run beside what Keras computes, to be damaged and compared."""

    def __init__(self, run: Run, bundle: Bundle, folder: Path) -> None:
        extractor, classifier = run.extractor(), run.classifier()
        frames = synthetic_frames(3, FRAMES, SIZE)
        features = extractor.extract(frames)
        self.inputs = {"extractor": frames, "classifier": features}
        self.expected = {"extractor": features, "classifier": predict(classifier, features)}
        self.bundle = bundle
        self.file = folder / "model.onnx"

    def check(self, stage: Stage, fault: Callable[[onnx.ModelProto], object] = leave, kind: Format = KIND) -> Parity:
        artifact = self.bundle.artifact(stage, "onnx-fp32")
        model = onnx.load(self.bundle.path(artifact))
        fault(model)
        onnx.save(model, self.file)
        return check_parity(
            kind,
            OnnxRuntime(self.file, threads=2),
            lambda inputs: self.expected[stage][: len(inputs)],
            self.inputs[stage],
            tensors=(artifact.inputs[0], artifact.outputs[0]),
        )

    def refusal(self, stage: Stage, fault: Callable[[onnx.ModelProto], object]) -> str:
        with pytest.raises(ParityError) as caught:
            self.check(stage, fault)
        line = str(caught.value)
        assert line.startswith("onnx-fp32: ")
        assert "the artifact does not count" in line
        return line


@pytest.fixture(scope="module")
def bench(tiny_run, tiny_bundle_dir, tmp_path_factory):
    return Bench(tiny_run, Bundle(tiny_bundle_dir), tmp_path_factory.mktemp("faults"))


def weights_of(model: onnx.ModelProto, name: str) -> np.ndarray:
    return numpy_helper.to_array(next(tensor for tensor in model.graph.initializer if tensor.name == name))


def put_weights(model: onnx.ModelProto, name: str, value: np.ndarray) -> None:
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value), name))


def node_of(model: onnx.ModelProto, operator: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if node.op_type == operator)


def rename_output(model: onnx.ModelProto) -> None:
    output = model.graph.output[0]
    for node in model.graph.node:
        node.output[:] = ["logits" if name == output.name else name for name in node.output]
    output.name = "logits"


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["extractor", "classifier"])
def test_a_right_file_passes_and_its_difference_is_measured(bench, stage):
    parity = bench.check(stage)
    assert 0 < parity.max_rel <= parity.tolerance == KIND.tolerance
    assert parity.max_abs > 0
    assert (parity.reference, parity.batches) == ("keras", (1, 3, 16))
    assert parity.cosine == pytest.approx(1, abs=1e-6)


@pytest.mark.slow
def test_swapped_colour_channels_are_found(bench):
    def fault(model):
        kernel = weights_of(model, "block1_conv1/kernel")
        put_weights(model, "block1_conv1/kernel", kernel[:, ::-1])

    assert "features differs from Keras by" in bench.refusal("extractor", fault)


def test_a_dropped_mean_is_found(bench):
    def fault(model):
        put_weights(model, "mean", np.zeros_like(weights_of(model, "mean")))

    assert "features differs from Keras by" in bench.refusal("extractor", fault)


@pytest.mark.slow
def test_a_mean_folded_into_the_bias_is_found_at_the_borders(bench):
    def fault(model):
        kernel, mean = weights_of(model, "block1_conv1/kernel"), weights_of(model, "mean")
        bias = weights_of(model, "block1_conv1/bias")
        put_weights(model, "block1_conv1/bias", bias - (kernel * mean[:3, None, None]).sum(axis=(1, 2, 3)))
        put_weights(model, "mean", np.zeros_like(mean))

    assert "features differs from Keras by" in bench.refusal("extractor", fault)


def test_swapped_height_and_width_are_found(bench):
    def fault(model):
        node_of(model, "Transpose").attribute[0].ints[:] = [0, 3, 2, 1]

    assert "features differs from Keras by" in bench.refusal("extractor", fault)


@pytest.mark.parametrize("gates", [(0, 1), (1, 2), (2, 3)])
def test_swapped_lstm_gates_are_found(bench, gates):
    def fault(model):
        lstm = node_of(model, "LSTM")
        for name in lstm.input[1:3]:
            blocks = np.split(weights_of(model, name), 4, axis=1)
            one, other = gates
            blocks[one], blocks[other] = blocks[other], blocks[one]
            put_weights(model, name, np.concatenate(blocks, axis=1))

    assert "probabilities differs from Keras by" in bench.refusal("classifier", fault)


def test_transposed_recurrent_weights_are_found(bench):
    def fault(model):
        name = node_of(model, "LSTM").input[2]
        blocks = np.split(weights_of(model, name), 4, axis=1)
        put_weights(model, name, np.concatenate([block.transpose(0, 2, 1) for block in blocks], axis=1))

    assert "probabilities differs from Keras by" in bench.refusal("classifier", fault)


def test_swapped_classes_are_found(bench):
    def fault(model):
        swap = model.graph.initializer.add()
        swap.CopyFrom(numpy_helper.from_array(np.array([1, 0]), "swap"))
        rename_output(model)
        model.graph.node.append(onnx.helper.make_node("Gather", ["logits", "swap"], ["probabilities"], axis=1))
        model.graph.output[0].name = "probabilities"

    assert "probabilities differs from Keras by" in bench.refusal("classifier", fault)


@pytest.mark.parametrize(("stage", "name"), [("extractor", "features"), ("classifier", "probabilities")])
def test_a_renamed_output_is_found(bench, stage, name):
    assert f"the output is called logits, not {name}" in bench.refusal(stage, rename_output)


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "name"), [("extractor", "features"), ("classifier", "probabilities")])
def test_a_weight_that_is_not_a_number_is_found(bench, stage, name):
    def fault(model):
        last = [node for node in model.graph.node if node.op_type in {"Conv", "MatMul"}][-1]
        value = weights_of(model, last.input[1]).copy()
        value.flat[0] = np.nan
        put_weights(model, last.input[1], value)

    assert f"{name} holds NaN or infinity at batch 1" in bench.refusal(stage, fault)


@pytest.mark.slow
def test_a_wrong_shape_is_found(bench):
    def fault(model):
        last = model.graph.node[-1]
        last.CopyFrom(onnx.helper.make_node("Identity", [last.input[0]], ["features"]))
        del model.graph.output[0].type.tensor_type.shape.dim[:]
        model.graph.output[0].type.tensor_type.ClearField("shape")

    assert f"features has shape [{FRAMES}, 512], not [1, {FRAMES}, 512] at batch 1" in bench.refusal("extractor", fault)


@pytest.mark.slow
def test_a_batch_that_is_fixed_is_found_at_the_larger_batch(bench):
    def fault(model):
        shape = onnx.helper.make_node("Constant", [], ["fixed"], value_ints=[1, -1, 512])
        last = model.graph.node.pop()
        model.graph.node.append(shape)
        model.graph.node.append(onnx.helper.make_node("Reshape", [last.input[0], "fixed"], ["features"]))

    line = bench.refusal("extractor", fault)
    assert "features has shape [1, 3, 512], not [3, 1, 512] at batch 3" in line


def test_the_tolerance_of_the_format_decides(bench):
    def fault(model):
        name = node_of(model, "LSTM").input[2]
        put_weights(model, name, weights_of(model, name) * 1.1)

    def within(tolerance):
        return bench.check("classifier", fault, dataclasses.replace(KIND, tolerance=tolerance))

    difference = within(1.0).max_rel
    assert difference > KIND.tolerance
    assert within(difference * 1.01).max_rel == pytest.approx(difference)
    with pytest.raises(ParityError, match="more than"):
        within(difference * 0.99)


def test_synthetic_frames_are_the_same_for_the_same_seed():
    frames = synthetic_frames(2, 3, 48, seed=5)
    assert (frames.shape, frames.dtype) == ((2, 3, 48, 48, 3), np.uint8)
    np.testing.assert_array_equal(frames, synthetic_frames(2, 3, 48, seed=5))
    assert (frames != synthetic_frames(2, 3, 48, seed=6)).any()


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda frames: frames[..., ::-1], id="channels reversed"),
        pytest.param(lambda frames: frames.swapaxes(2, 3), id="height and width swapped"),
        pytest.param(lambda frames: frames[:, :, ::-1], id="upside down"),
        pytest.param(lambda frames: frames[:, ::-1], id="backwards"),
        pytest.param(lambda frames: frames[::-1], id="clips swapped"),
    ],
)
def test_synthetic_frames_tell_every_mix_up(change):
    frames = synthetic_frames(2, 4, 64)
    assert np.abs(frames.astype(int) - change(frames)).mean() > 5
