"""Operations and parameters of ONNX graphs: known networks, layers counted by hand, and graphs of open shapes."""

from __future__ import annotations

import math

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from vdeploy.artifacts.bundle import Bundle
from vdeploy.core.errors import ExportError
from vdeploy.export.onnx.flops import count_flops, count_parameters

VGG19 = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))
"""Channels and convolutions of each block (Simonyan and Zisserman 2015, table 1, configuration E)."""


def model_of(nodes, weights=(), *, rows=("batch", 16, 8), output=None) -> onnx.ModelProto:
    """A graph from ``x`` to ``y``; weights are given as their shapes by name."""
    tensors = [numpy_helper.from_array(np.zeros(shape, np.float32), name) for name, shape in dict(weights).items()]
    source = helper.make_tensor_value_info("x", TensorProto.FLOAT, rows)
    target = helper.make_tensor_value_info("y", TensorProto.FLOAT, output)
    graph = helper.make_graph(nodes, "test", [source], [target], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def node(operator, *inputs, output="y", **attributes) -> onnx.NodeProto:
    return helper.make_node(operator, inputs, [output], **attributes)


def vgg19(layer: str) -> tuple[onnx.ModelProto, dict[str, tuple[int, ...]]]:
    """VGG19 with its weights as inputs, which keeps them out of memory, and the shapes of all inputs."""
    shapes, nodes, channels, last = {"x": (1, 3, 224, 224)}, [], 3, "x"
    for block, (width, convolutions) in enumerate(VGG19):
        for index in range(convolutions):
            name = f"conv{block}_{index}"
            shapes[f"{name}/w"] = (width, channels, 3, 3)
            nodes.append(node("Conv", last, f"{name}/w", output=name, pads=[1, 1, 1, 1]))
            channels, last = width, name
        nodes.append(node("MaxPool", last, output=f"pool{block}", kernel_shape=[2, 2], strides=[2, 2]))
        last = f"pool{block}"
    if layer == "fc2":
        shapes |= {"fc1/w": (25088, 4096), "fc2/w": (4096, 4096)}
        nodes += [node("Flatten", last, output="flat"), node("Gemm", "flat", "fc1/w", output="fc1")]
        nodes.append(node("MatMul", "fc1", "fc2/w"))
    else:
        nodes.append(node("GlobalAveragePool", last))
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    target = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "vgg19", inputs, [target])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), shapes


def lstm_flops(frames: int, dim: int, units: int) -> int:
    return 2 * 4 * units * (frames * dim + (frames - 1) * units)


def test_vgg19_has_the_known_number_of_multiply_adds():
    """19.6 billion, of which the last layer, 4096 x 1000, is left out here."""
    assert count_flops(vgg19("fc2")[0]) / 2 == pytest.approx(19.63e9, rel=1e-3)
    assert count_flops(vgg19("avg")[0]) == 39_016_857_600
    assert count_flops(vgg19("fc2")[0]) - count_flops(vgg19("avg")[0]) == 2 * (25088 * 4096 + 4096 * 4096)


@pytest.mark.slow
def test_the_exported_graphs_hold_what_the_formulas_say(tiny_bundle_dir):
    bundle = Bundle(tiny_bundle_dir)
    spec, dim = bundle.manifest.clip_spec, bundle.manifest.extractor.dim
    units, dense = (bundle.manifest.classifier.settings[name] for name in ("units", "dense"))
    extractor, classifier = (bundle.path(bundle.artifact(stage, "onnx-fp32")) for stage in ("extractor", "classifier"))
    convolutions = 39_016_857_600 // (224 // spec.size) ** 2
    assert count_flops(extractor, {"frames": (1, spec.frames, spec.size, spec.size, 3)}) == spec.frames * convolutions
    expected = lstm_flops(spec.frames, dim, units) + 2 * (units * dense + dense * 2)
    assert count_flops(classifier, {"features": (1, spec.frames, dim)}) == expected
    assert count_flops(classifier, {"features": (3, spec.frames, dim)}) == 3 * expected
    assert bundle.manifest.classifier.flops == expected
    assert bundle.manifest.extractor.flops == spec.frames * convolutions


def test_parameters_are_those_of_keras_and_the_constants_beside_them(tiny_run, tiny_bundle_dir):
    bundle = Bundle(tiny_bundle_dir)
    extractor, classifier = (bundle.path(bundle.artifact(stage, "onnx-fp32")) for stage in ("extractor", "classifier"))
    assert count_parameters(extractor) == pytest.approx(20_024_384, rel=1e-4)
    assert count_parameters(extractor) == count_parameters(onnx.load(extractor))
    keras_count = tiny_run.classifier().count_params()
    recurrent_bias = 4 * bundle.manifest.classifier.settings["units"]
    assert keras_count <= count_parameters(classifier) <= keras_count + recurrent_bias + 16


@pytest.mark.parametrize("steps", [1, 2, 16])
def test_a_lstm_begins_with_a_hidden_state_of_zero(steps):
    layer = node("LSTM", "x", "w", "r", hidden_size=4)
    model = model_of([layer], {"w": (1, 16, 8), "r": (1, 16, 4)}, rows=(steps, "batch", 8))
    assert count_flops(model, {"x": (steps, 1, 8)}) == lstm_flops(steps, 8, 4)


def test_a_given_hidden_state_is_multiplied_in_the_first_step_as_well():
    states = [
        node("Slice", "x", "from", "to", "axis", output="h0"),
        node("Slice", "x", "from", "to", "axis", output="c0"),
    ]
    layer = node("LSTM", "x", "w", "r", "", "", "h0", "c0", hidden_size=8)
    model = model_of([*states, layer], {"w": (1, 32, 8), "r": (1, 32, 8)}, rows=(16, "batch", 8))
    for name, value in (("from", 0), ("to", 1), ("axis", 0)):
        model.graph.initializer.append(numpy_helper.from_array(np.array([value]), name))
    assert count_flops(model, {"x": (16, 2, 8)}) == 2 * 2 * 4 * 8 * 16 * (8 + 8)


def test_a_gru_has_three_gates_and_both_directions_count():
    layer = node("GRU", "x", "w", "r", hidden_size=4, direction="bidirectional")
    model = model_of([layer], {"w": (2, 12, 8), "r": (2, 12, 4)}, rows=(16, "batch", 8))
    assert count_flops(model, {"x": (16, 1, 8)}) == 2 * 2 * 3 * 4 * (16 * 8 + 15 * 4)


@pytest.mark.parametrize(
    ("operator", "kernel", "rows", "attributes", "expected"),
    [
        ("Conv", (5, 3, 3, 3, 3), ("batch", 3, 4, 6, 6), {"pads": [1] * 6}, 2 * 5 * 3 * 27 * 4 * 6 * 6),
        ("Conv", (6, 1, 3, 3), ("batch", 6, 8, 8), {"group": 6, "pads": [1] * 4}, 2 * 6 * 9 * 8 * 8),
        ("Conv", (4, 6, 1, 1), ("batch", 6, 8, 8), {"strides": [2, 2]}, 2 * 4 * 6 * 4 * 4),
        ("ConvTranspose", (6, 4, 2, 2), ("batch", 6, 8, 8), {"strides": [2, 2]}, 2 * 6 * 4 * 4 * 8 * 8),
        ("MatMul", (8, 5), ("batch", 16, 8), {}, 2 * 16 * 8 * 5),
        ("Gemm", (5, 8), ("batch", 8), {"transB": 1}, 2 * 8 * 5),
        ("Einsum", (8, 2, 4), ("batch", 16, 8), {"equation": "btf,fhd->bthd"}, 2 * 16 * 8 * 2 * 4),
        ("Einsum", (8, 4), ("batch", 16, 8), {"equation": "...f, fd -> ...d"}, 2 * 16 * 8 * 4),
    ],
    ids=["3-D", "depthwise", "strided", "transposed", "product", "dense", "einsum", "ellipsis"],
)
def test_layers_by_hand(operator, kernel, rows, attributes, expected):
    model = model_of([node(operator, "x", "w", **attributes)], {"w": kernel}, rows=rows)
    assert count_flops(model, {"x": (1, *rows[1:])}) == expected
    assert count_flops(model, {"x": (2, *rows[1:])}) == 2 * expected
    assert count_parameters(model) == math.prod(kernel)


def test_quantized_layers_count_as_the_ones_that_they_replace():
    scale, zero = np.array(0.1, np.float32), np.array(0, np.int8)
    nodes = [
        node("QuantizeLinear", "x", "scale", "zero", output="q"),
        node("DequantizeLinear", "q", "scale", "zero", output="d"),
        node("DequantizeLinear", "w", "scale", "zero", output="e"),
        node("MatMul", "d", "e"),
    ]
    model = model_of(nodes)
    for name, value in (("scale", scale), ("zero", zero), ("w", np.ones((8, 5), np.int8))):
        model.graph.initializer.append(numpy_helper.from_array(value, name))
    assert count_flops(model, {"x": (1, 16, 8)}) == 2 * 16 * 8 * 5
    assert count_parameters(model) == 8 * 5


def test_shapes_behind_a_computed_reshape_are_found_by_running():
    """As attention is exported: a product's rows are merged by a shape that is itself computed."""
    nodes = [
        node("Shape", "x", output="shape"),
        node("Slice", "shape", "zero", "two", output="rows"),
        node("ReduceProd", "rows", output="count", keepdims=1),
        node("Concat", "count", "width", output="flat", axis=0),
        node("Reshape", "x", "flat", output="merged"),
        node("MatMul", "merged", "w"),
    ]
    model = model_of(nodes, {"w": (8, 5)})
    for name, value in (("zero", 0), ("two", 2), ("width", 8)):
        model.graph.initializer.append(numpy_helper.from_array(np.array([value]), name))
    assert count_flops(model, {"x": (2, 16, 8)}) == 2 * 2 * 16 * 8 * 5


def test_products_inside_a_loop_count_once_for_every_turn():
    state = helper.make_tensor_value_info("state", TensorProto.FLOAT, ["batch", 8])
    after = helper.make_tensor_value_info("after", TensorProto.FLOAT, ["batch", 8])
    turn = helper.make_tensor_value_info("turn", TensorProto.INT64, [])
    keep, kept = (helper.make_tensor_value_info(name, TensorProto.BOOL, []) for name in ("keep", "kept"))
    body = [node("MatMul", "state", "w", output="after"), node("Identity", "keep", output="kept")]
    graph = helper.make_graph(body, "body", [turn, keep, state], [kept, after])
    model = model_of([node("Loop", "turns", "", "x", body=graph)], {"w": (8, 8)}, rows=("batch", 8))
    model.graph.initializer.append(numpy_helper.from_array(np.array(7), "turns"))
    assert count_flops(model, {"x": (3, 8)}) == 7 * 2 * 3 * 8 * 8


@pytest.mark.parametrize("inputs", [None, {"x": (1, 16)}, {"x": (0, 16, 8)}], ids=["left out", "short", "empty"])
def test_an_open_shape_is_refused_in_one_line(inputs):
    model = model_of([node("MatMul", "x", "w")], {"w": (8, 5)})
    with pytest.raises(ExportError, match=r"its input x is open") as caught:
        count_flops(model, inputs)
    assert "\n" not in str(caught.value)


def test_a_shape_that_the_graph_does_not_take_is_refused_in_one_line():
    nodes = [node("Shape", "x", output="shape"), node("ReduceProd", "shape", output="one", keepdims=1)]
    nodes += [node("Reshape", "x", "one", output="flat"), node("MatMul", "flat", "w")]
    with pytest.raises(ExportError, match="cannot be counted") as caught:
        count_flops(model_of(nodes, {"w": (8, 5)}), {"x": (2, 16, 8)})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("count", [count_flops, count_parameters])
@pytest.mark.parametrize("content", [None, b"", b"no model"], ids=["missing", "empty", "text"])
def test_a_file_that_is_no_model_is_refused_in_one_line(tmp_path, count, content):
    file = tmp_path / "model.onnx"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ExportError, match=r"model\.onnx is no ONNX model") as caught:
        count(file)
    assert "\n" not in str(caught.value)
