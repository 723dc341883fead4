"""OpenVINO's files: what is written is what the ONNX file says, in the same bytes every time, and found in it again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from vdeploy.artifacts.bundle import digest_of
from vdeploy.core.errors import BundleError, MissingExtraError
from vdeploy.core.files import sha256_of
from vdeploy.export.onnx.inspection import inspect_onnx
from vdeploy.export.openvino.convert import onnx_to_openvino
from vdeploy.export.openvino.inspection import found_precision, inspect_openvino, layers_of
from vdeploy.export.quantization import CPU, cpu_flavour
from vdeploy.export.quantization.histograms import collect_histograms
from vdeploy.export.quantization.qdq import tensors_to_calibrate, write_qdq
from vdeploy.export.quantization.ranges import min_max
from vdeploy.inference.runtimes.onnxruntime import OnnxRuntime
from vdeploy.inference.runtimes.openvino import GRAPH, OpenVinoRuntime
from vdeploy.inspection.describe import describe

openvino = pytest.importorskip("openvino")

VGG19_FLOPS = 39_016_857_600 // 7**2
"""Of a frame of 32 pixels; a frame of 224 pixels is 49 times as many."""


def quantized(model, keep=()):
    return write_qdq(model, CPU, dict.fromkeys(tensors_to_calibrate(model), (-1.0, 8.0)), keep=keep)


def products(*, bias: bool = False) -> onnx.ModelProto:
    """Two dense layers one after the other, and a softmax."""
    random = np.random.default_rng(0)
    weights = [numpy_helper.from_array(random.normal(size=(16, 16)).astype(np.float32), name) for name in ("v", "w")]
    weights += [numpy_helper.from_array(np.ones(16, np.float32), "b")] if bias else []
    kind, more = ("Gemm", ["b"]) if bias else ("MatMul", [])
    nodes = [
        helper.make_node(kind, ["x", "v", *more], ["between"], name="first"),
        helper.make_node(kind, ["between", "w", *more], ["end"], name="second"),
        helper.make_node("Softmax", ["end"], ["y"], name="softmax"),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 16]) for name in "xy"]
    graph = helper.make_graph(nodes, "products", ends[:1], ends[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def written(saved, tmp_path):
    def write(model, name="model"):
        onnx_to_openvino(saved(model), tmp_path / name)
        return tmp_path / name

    return write


@pytest.mark.slow
def test_the_folder_computes_what_the_onnx_file_does(stage, saved, written):
    seen, flavour = collect_histograms(stage.model, tensors_to_calibrate(stage.model), stage.feeds()), cpu_flavour()
    ranges = {name: min_max(histogram, flavour) for name, histogram in seen.items()}
    for model, limit in ((stage.model, 1e-5), (write_qdq(stage.model, flavour, ranges), 0.1)):
        folder = written(model)
        assert sorted(file.name for file in folder.iterdir()) == ["model.bin", GRAPH]
        found = OpenVinoRuntime(folder, threads=2).infer({stage.source: stage.inputs})[stage.target]
        expected = OnnxRuntime(saved(model), threads=2).infer({stage.source: stage.inputs})[stage.target]
        assert found.dtype == np.float32
        assert np.abs(expected).max() > 0
        assert np.abs(found - expected).max() < limit * np.abs(expected).max()


@pytest.mark.parametrize("lower", [lambda model: model, quantized], ids=["fp32", "int8"])
def test_the_same_file_gives_the_same_bytes(classifier_stage, written, lower):
    model = lower(classifier_stage.model)
    assert digest_of(written(model, "one")) == digest_of(written(model, "other"))


def test_precisions_are_those_that_the_onnx_file_has(stage, saved, written):
    for model in (stage.model, quantized(stage.model)):
        assert found_precision(written(model) / GRAPH) == inspect_onnx(saved(model)).precision


def test_the_operations_are_those_of_vgg19(extractor_stage, written):
    layers = inspect_openvino(written(quantized(extractor_stage.model)) / GRAPH)
    assert [layer.name for layer in layers][:2] == ["block1_conv1", "block1_conv2"]
    assert sum(layer.flops for layer in layers) == VGG19_FLOPS


def test_one_layer_left_in_float_is_found_and_named(extractor_stage, written):
    layers = inspect_openvino(written(quantized(extractor_stage.model, keep=["block4_conv2"])) / GRAPH)
    assert [layer.name for layer in layers if layer.precision != "int8"] == ["block4_conv2"]


@pytest.mark.parametrize("bias", [False, True])
def test_dense_layers_are_found_by_name(written, bias):
    layers = inspect_openvino(written(quantized(products(bias=bias), keep=["second"])) / GRAPH)
    assert [(layer.name, layer.precision) for layer in layers] == [("first", "int8"), ("second", "fp32")]


def test_eight_bit_weights_alone_do_not_make_a_layer_int8(written):
    model = quantized(products())
    layer = next(node for node in model.graph.node if node.name == "second")
    layer.input[0] = layer.input[0].replace("/dequantized", "")
    found = inspect_openvino(written(model) / GRAPH)
    assert [layer.precision for layer in found] == ["int8", "fp32"]


def test_a_quantized_input_that_is_multiplied_by_another_one_is_floating_point_again(written):
    model = quantized(products())
    second = next(index for index, node in enumerate(model.graph.node) if node.name == "second")
    layer = model.graph.node[second]
    model.graph.node.insert(second, helper.make_node("Mul", [layer.input[0], "x"], ["product"], name="gate"))
    model.graph.node[second + 1].input[0] = "product"
    found = inspect_openvino(written(model) / GRAPH)
    assert [layer.precision for layer in found] == ["int8", "fp32"]


@pytest.mark.parametrize(("joined", "precision"), [("quantized", "int8"), ("given", "fp32")])
def test_a_joined_input_is_quantized_if_all_of_it_is(joined, precision):
    ops = openvino.opset13
    given = ops.parameter([-1, 8], np.float32)
    limits = [np.float32(edge) for edge in (0, 1, 0, 1)]
    parts = {"given": given, "quantized": ops.fake_quantize(given, *limits, 256)}
    weights = ops.convert(ops.constant(np.ones((16, 4), np.int8)), "f32")
    layer = ops.matmul(ops.concat([parts["quantized"], parts[joined]], 1), weights, False, False)
    (found,) = layers_of(openvino.Model([layer], [given]), Path(GRAPH))
    assert found.precision == precision


def test_a_layer_whose_weights_go_through_more_is_not_overlooked():
    ops = openvino.opset13
    given = ops.parameter([-1, 8], np.float32)
    limits = [np.float32(edge) for edge in (0, 1, 0, 1)]
    weights = ops.fake_quantize(ops.constant(np.ones((8, 4), np.float32)), *limits, 256)
    layer = ops.matmul(ops.fake_quantize(given, *limits, 256), weights, False, False)
    (found,) = layers_of(openvino.Model([layer], [given]), Path(GRAPH))
    assert (found.precision, found.flops) == ("fp32", 2.0 * 8 * 4)


def test_a_product_of_two_inputs_is_no_layer(written):
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4, 4]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "x"], ["y"])], "square", ends[:1], ends[1:])
    folder = written(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    with pytest.raises(BundleError, match="holds no layer with weights"):
        found_precision(folder / GRAPH)


def test_weights_that_were_stored_in_half_are_found(written, tmp_path):
    model = openvino.Core().read_model(written(products()) / GRAPH)
    openvino.save_model(model, tmp_path / "half.xml", compress_to_fp16=True)
    assert found_precision(tmp_path / "half.xml") == "fp16"


@pytest.mark.parametrize("content", ["no model", ""], ids=["text", "empty"])
def test_a_foreign_file_is_refused_in_one_line(tmp_path, content):
    (tmp_path / GRAPH).write_text(content)
    with pytest.raises(BundleError, match=r"OpenVINO cannot read .*model\.xml") as caught:
        found_precision(tmp_path / GRAPH)
    assert "\n" not in str(caught.value)
    with pytest.raises(BundleError, match="OpenVINO cannot load") as caught:
        OpenVinoRuntime(tmp_path)
    assert "\n" not in str(caught.value)


def test_weights_that_are_missing_are_refused(written):
    folder = written(products())
    (folder / "model.bin").unlink()
    with pytest.raises(BundleError, match="OpenVINO cannot load"):
        OpenVinoRuntime(folder)


def test_a_graph_without_layers_is_refused(written):
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "neg", ends[:1], ends[1:])
    with pytest.raises(BundleError, match="holds no layer with weights"):
        found_precision(written(helper.make_model(graph)) / GRAPH)


def test_a_full_disk_is_told_in_a_line_and_leaves_nothing(saved, tmp_path):
    script = (
        "import resource, sys; from pathlib import Path\n"
        "from vdeploy.core.errors import ExportError; from vdeploy.export.openvino.convert import onnx_to_openvino\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))\n"
        "try: onnx_to_openvino(Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "except ExportError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, saved(products()), tmp_path / "folder" / "model"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout.startswith("cannot write the OpenVINO model ")
    assert "; free some space or choose another --out" in done.stdout
    assert done.stdout.count("\n") == 1
    assert not list((tmp_path / "folder").iterdir())


def test_without_openvino_the_extra_is_named(saved, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtraError, match=r"vdeploy\[openvino\]"):
        onnx_to_openvino(saved(products()), tmp_path / "model")


def test_a_graph_is_described(written):
    folder = written(quantized(products()))
    (part,) = describe(folder / GRAPH).parts
    assert (part.name, part.format, part.precision) == (GRAPH, "openvino", "int8")
    assert part.sha256 == sha256_of(folder / GRAPH)
    assert part.bytes == sum(file.stat().st_size for file in folder.iterdir())
    assert [str(tensor) for tensor in (*part.inputs, *part.outputs)] == ["x float32[-1, 16]", "y float32[-1, 16]"]
