"""The counts of operations: known numbers of VGG19, and what the exported ONNX graphs really hold."""

from __future__ import annotations

import math

import onnx
import pytest
from onnx import numpy_helper

from vdeploy.artifacts.bundle import Bundle
from vdeploy.benchmark.measure.flops import classifier_flop, extractor_flop, flop_per_clip


def count(model: onnx.ModelProto, batch: int, frames: int) -> int:
    """Operations of a graph: twice the multiply-adds of its convolutions, products and LSTMs."""
    for axis, length in zip(model.graph.input[0].type.tensor_type.shape.dim, (batch, frames), strict=False):
        axis.ClearField("dim_param")
        axis.dim_value = length
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    weights = {tensor.name: numpy_helper.to_array(tensor).shape for tensor in graph.initializer}
    shapes = {
        value.name: [axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.value_info, *graph.output)
    }
    total = 0
    for node in graph.node:
        if node.op_type == "Conv":
            total += 2 * math.prod(shapes[node.output[0]]) * math.prod(weights[node.input[1]][1:])
        elif node.op_type in ("MatMul", "Gemm"):
            total += 2 * batch * math.prod(weights[node.input[1]])
        elif node.op_type == "LSTM":
            total += 2 * batch * frames * math.prod(weights[node.input[1]])
            total += 2 * batch * (frames - 1) * math.prod(weights[node.input[2]])
    return total


def test_vgg19_has_the_known_number_of_multiply_adds():
    """19.6 billion, of which the last layer, 4096 x 1000, is left out here."""
    assert extractor_flop(1, 224, "fc2") / 2 == pytest.approx(19.63e9, rel=1e-3)
    assert extractor_flop(16, 224, "avg") == 16 * extractor_flop(1, 224, "avg45")


def test_the_exported_graphs_hold_what_the_formulas_say(tiny_bundle_dir):
    bundle = Bundle(tiny_bundle_dir)
    frames = bundle.manifest.clip_spec.frames
    for stage in ("extractor", "classifier"):
        model = onnx.load(str(bundle.path(bundle.artifact(stage, "onnx-fp32"))))
        assert count(model, 1, frames) == flop_per_clip(bundle.manifest, stage)


def test_the_whole_is_the_sum_of_both(tiny_bundle_dir):
    manifest = Bundle(tiny_bundle_dir).manifest
    parts = [flop_per_clip(manifest, stage) for stage in ("extractor", "classifier")]
    assert flop_per_clip(manifest, "pipeline") == flop_per_clip(manifest, "video") == sum(parts)


def test_without_sizes_the_classifier_is_not_counted(tiny_bundle_dir):
    manifest = Bundle(tiny_bundle_dir).manifest.model_copy(update={"classifier": None})
    assert flop_per_clip(manifest, "extractor")
    assert flop_per_clip(manifest, "classifier") is flop_per_clip(manifest, "video") is None


def test_a_classifier_by_hand():
    """One unit, one feature, two steps: four gates see two inputs and one hidden state."""
    assert classifier_flop(2, 1, 1, 1) == 2 * (4 * 3 + 1 + 2)
