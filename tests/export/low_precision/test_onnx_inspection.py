"""The precision that is found is the file's, whatever it is called."""

from __future__ import annotations

import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from vdeploy.core.errors import BundleError
from vdeploy.export.onnx.float16 import to_float16
from vdeploy.export.onnx.inspection import inspect_onnx
from vdeploy.export.quantization import CPU, FLAVOURS
from vdeploy.export.quantization.qdq import tensors_to_calibrate, write_qdq
from vdeploy.export.verification.precision import shares_of

VGG19_FLOPS = 39_016_857_600 // 7**2
"""Of a frame of 32 pixels; a frame of 224 pixels is 49 times as many."""


def quantized(model, flavour=CPU, keep=()):
    return write_qdq(model, flavour, dict.fromkeys(tensors_to_calibrate(model), (-1.0, 8.0)), keep=keep)


def copy_of(model: onnx.ModelProto) -> onnx.ModelProto:
    result = onnx.ModelProto()
    result.CopyFrom(model)
    return result


def test_a_float_network_is_found_to_be_one(stage, saved):
    assert inspect_onnx(saved(stage.model)).precision == "fp32"


@pytest.mark.parametrize("flavour", FLAVOURS.values(), ids=FLAVOURS)
def test_a_quantized_extractor_is_int8_in_both_flavours(extractor_stage, saved, flavour):
    found = inspect_onnx(saved(quantized(extractor_stage.model, flavour)))
    assert found.precision == "int8"
    assert shares_of(found.layers) == {"int8": pytest.approx(1.0)}


def test_versions_are_told(extractor_stage, saved):
    found = inspect_onnx(saved(extractor_stage.model))
    assert (found.opset, found.ir_version) == (17, 8)


def test_the_operations_are_those_of_vgg19(extractor_stage, saved):
    found = inspect_onnx(saved(extractor_stage.model))
    assert sum(layer.flops for layer in found.layers) == VGG19_FLOPS


def test_a_float_network_passed_as_fp16_is_found(stage, saved):
    """Its weights are stored in float16, but a cast in front of every layer makes it compute in float32."""
    disguised = copy_of(stage.model)
    graph = disguised.graph
    for tensor in [tensor for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT]:
        half = numpy_helper.from_array(numpy_helper.to_array(tensor).astype("float16"), f"{tensor.name}/fp16")
        graph.node.insert(0, helper.make_node("Cast", [half.name], [tensor.name], to=TensorProto.FLOAT))
        graph.initializer.append(half)
        graph.initializer.remove(tensor)
    onnx.checker.check_model(disguised, full_check=True)
    assert inspect_onnx(saved(disguised)).precision == "fp32"


def test_one_layer_left_in_float_is_found_and_named(extractor_stage, saved):
    found = inspect_onnx(saved(quantized(extractor_stage.model, keep=["block4_conv2"])))
    assert [layer.name for layer in found.layers if layer.precision == "fp32"] == ["block4_conv2"]
    share = 2 * 4 * 4 * 9 * 512 * 512 / VGG19_FLOPS
    assert shares_of(found.layers) == {"int8": pytest.approx(1 - share), "fp32": pytest.approx(share)}
    assert found.precision == f"mixed: int8 {100 - 100 * share:.3g} %, fp32 {100 * share:.3g} % of the operations"


def test_eight_bit_weights_alone_do_not_make_a_layer_int8(extractor_stage, saved):
    model = quantized(extractor_stage.model)
    layer = next(node for node in model.graph.node if node.name == "block5_conv1")
    layer.input[0] = layer.input[0].replace("/dequantized", "")
    found = inspect_onnx(saved(model)).layers
    assert [layer.name for layer in found if layer.precision == "fp32"] == ["block5_conv1"]


def test_an_lstm_stays_in_float_beside_quantized_products(classifier_stage, saved):
    found = inspect_onnx(saved(quantized(classifier_stage.model)))
    assert {layer.operator: layer.precision for layer in found.layers} == {"LSTM": "fp32", "MatMul": "int8"}
    assert found.precision.startswith("mixed: fp32 ")


def test_a_mixed_network_is_told_from_a_half_one(extractor_stage, saved):
    file = saved(to_float16(extractor_stage.model, wide=["block2_conv1"]))
    assert inspect_onnx(file).precision.startswith("mixed: fp16 ")


@pytest.mark.parametrize("content", [b"no model", b""], ids=["text", "empty"])
def test_a_foreign_file_is_refused_in_one_line(tmp_path, content):
    file = tmp_path / "model.onnx"
    file.write_bytes(content)
    with pytest.raises(BundleError, match=r"model\.onnx") as caught:
        inspect_onnx(file)
    assert "\n" not in str(caught.value)


def test_a_graph_without_layers_is_refused(tmp_path):
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "neg", [value], [result])
    onnx.save(helper.make_model(graph), tmp_path / "model.onnx")
    with pytest.raises(BundleError, match="holds no layer with weights"):
        inspect_onnx(tmp_path / "model.onnx")
