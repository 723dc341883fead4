"""Q/DQ graphs: real 8-bit layers, float's numbers, and what each runtime asks of the nodes around them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from vdeploy.core.errors import ExportError
from vdeploy.export.onnx.activations import observe
from vdeploy.export.onnx.inspection import inspect_onnx
from vdeploy.export.quantization import CPU, FLAVOURS, TENSORRT, cpu_flavour
from vdeploy.export.quantization.histograms import collect_histograms
from vdeploy.export.quantization.qdq import quantizable_layers, tensors_to_calibrate, write_qdq
from vdeploy.export.quantization.ranges import min_max

each_flavour = pytest.mark.parametrize("flavour", FLAVOURS.values(), ids=FLAVOURS)


def ranges_of(stage, flavour=CPU):
    histograms = collect_histograms(stage.model, tensors_to_calibrate(stage.model), stage.feeds())
    return {name: min_max(histogram, flavour) for name, histogram in histograms.items()}


@pytest.fixture(scope="session")
def extractor_ranges(extractor_stage):
    return ranges_of(extractor_stage)


@pytest.fixture
def ranges(stage, extractor_ranges):
    return extractor_ranges if stage.name == "extractor" else ranges_of(stage)


def weights(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


@pytest.mark.slow
@each_flavour
@pytest.mark.usefixtures("computed_here")
def test_it_computes_nearly_the_same_from_the_same_inputs(stage, ranges, flavour, unchanged):
    quantized = write_qdq(unchanged(stage.model), flavour, ranges)
    onnx.checker.check_model(quantized, full_check=True)
    assert list(quantized.graph.input) == list(stage.model.graph.input)
    assert list(quantized.graph.output) == list(stage.model.graph.output)
    assert 0 < stage.relative_error(quantized) < 0.1
    actual, expected = stage.run(quantized).ravel(), stage.expected.ravel()
    assert actual @ expected / np.linalg.norm(actual) / np.linalg.norm(expected) > 0.995


@pytest.mark.slow
@each_flavour
def test_the_same_input_gives_the_same_bytes(stage, ranges, flavour):
    one, other = (write_qdq(stage.model, flavour, ranges).SerializeToString(deterministic=True) for _ in range(2))
    assert one == other


@each_flavour
def test_the_extractor_is_a_quarter_as_large(extractor_stage, extractor_ranges, flavour, saved):
    whole = saved(extractor_stage.model).stat().st_size
    assert saved(write_qdq(extractor_stage.model, flavour, extractor_ranges)).stat().st_size / whole < 0.26


@each_flavour
def test_weights_have_a_scale_per_output_channel(extractor_stage, extractor_ranges, flavour):
    found = weights(write_qdq(extractor_stage.model, flavour, extractor_ranges))
    kernel, scale = found["block2_conv1/kernel/quantized"], found["block2_conv1/kernel/scale"]
    assert (kernel.dtype, kernel.shape, scale.shape) == (np.int8, (128, 64, 3, 3), (128,))
    restored = kernel * scale[:, None, None, None]
    error = np.abs(restored - weights(extractor_stage.model)["block2_conv1/kernel"])
    assert (error.max(axis=(1, 2, 3)) <= scale * 0.5001).all()


@each_flavour
def test_the_first_node_casts_the_bytes(extractor_stage, extractor_ranges, flavour):
    first = write_qdq(extractor_stage.model, flavour, extractor_ranges).graph.node[0]
    assert (first.op_type, list(first.input)) == ("Cast", ["frames"])


def test_for_tensorrt_only_what_layers_read_is_quantized(extractor_stage, extractor_ranges):
    model = write_qdq(extractor_stage.model, TENSORRT, extractor_ranges)
    found = Counter(node.op_type for node in model.graph.node)
    assert (found["QuantizeLinear"], found["DequantizeLinear"]) == (16, 32)
    stored = weights(model)
    assert {value.dtype for name, value in stored.items() if name.endswith("/zero_point")} == {np.dtype(np.int8)}
    assert not any(value.any() for name, value in stored.items() if name.endswith("/zero_point"))
    assert all(stored[f"{layer}/bias"].dtype == np.float32 for layer in ("block1_conv1", "block5_conv4"))


def test_for_tensorrt_float_nodes_read_what_is_not_quantized(extractor_stage, extractor_ranges):
    model = onnx.ModelProto()
    model.CopyFrom(extractor_stage.model)
    names = [node.name for node in model.graph.node]
    average = next(node for node in model.graph.node if node.op_type == "GlobalAveragePool")
    average.input[0] = "block4_pool"
    assert names.index("block5_conv1") < names.index(average.name)
    for flavour, read in ((TENSORRT, "block4_pool"), (CPU, "block4_pool/dequantized")):
        quantized = write_qdq(model, flavour, extractor_ranges)
        reader = next(node for node in quantized.graph.node if node.name == average.name)
        assert list(reader.input) == [read]


def operators_that_run(model: onnx.ModelProto, folder) -> Counter[str]:
    """What ONNX Runtime makes of a model on this CPU."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(folder / "optimized.onnx").graph.node)


def test_on_a_cpu_every_convolution_runs_in_eight_bits_with_its_relu(extractor_stage, extractor_ranges, tmp_path):
    found = operators_that_run(write_qdq(extractor_stage.model, CPU, extractor_ranges), tmp_path)
    assert found["QLinearConv"] == 16
    assert not found["Conv"] + found["FusedConv"] + found["Relu"]
    assert (found["QuantizeLinear"], found["DequantizeLinear"]) == (1, 1)


def test_layers_to_keep_stay_in_float_when_they_run(extractor_stage, extractor_ranges, tmp_path, saved):
    kept = ["block1_conv1", "block3_conv1", "block3_conv4", "block4_conv2", "block4_conv3", "block5_conv4"]
    model = write_qdq(extractor_stage.model, CPU, extractor_ranges, keep=kept)
    found = inspect_onnx(saved(model)).layers
    assert sorted(layer.name for layer in found if layer.precision == "fp32") == kept
    found = operators_that_run(model, tmp_path)
    assert found["QLinearConv"] == 16 - len(kept)
    assert extractor_stage.relative_error(model) < 0.1


@pytest.mark.slow
@each_flavour
def test_keeping_every_layer_is_the_float_model(stage, ranges, flavour):
    keep = [node.name for node in quantizable_layers(stage.model)]
    np.testing.assert_array_equal(stage.run(write_qdq(stage.model, flavour, ranges, keep=keep)), stage.run(stage.model))


@each_flavour
def test_a_tensor_left_out_of_the_calibration_is_refused(extractor_stage, extractor_ranges, flavour):
    lacking = {name: value for name, value in extractor_ranges.items() if name != "block4_conv1/relu"}
    with pytest.raises(ExportError, match="the tensor block4_conv1/relu was left out of the calibration"):
        write_qdq(extractor_stage.model, flavour, lacking)


def dense(kernel: np.ndarray, bias: np.ndarray) -> onnx.ModelProto:
    nodes = [helper.make_node("Gemm", ["x", "kernel", "bias"], ["y"], name="dense")]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 2]) for name in "xy"]
    tensors = [numpy_helper.from_array(kernel, "kernel"), numpy_helper.from_array(bias, "bias")]
    graph = helper.make_graph(nodes, "dense", values[:1], values[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def run_dense(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    return next(observe(model, ["y"], [{"x": x}]))["y"]


@each_flavour
def test_a_bias_far_larger_than_its_weights_does_not_overflow(flavour):
    kernel = np.array([[1.0, 1e-7], [0.5, -1e-7]], np.float32)
    bias = np.array([0.25, 3000.0], np.float32)
    x = np.array([[1.0, -1.0]], np.float32)
    model = write_qdq(dense(kernel, bias), flavour, {"x": (-1.0, 1.0), "y": (0.0, 3000.0)})
    assert run_dense(model, x)[0, 1] == pytest.approx(3000, rel=1e-3)


@each_flavour
def test_weights_that_several_layers_share_are_quantized_once(flavour):
    """The steps of an unrolled recurrence multiply by one matrix."""
    kernel = np.random.default_rng(0).normal(size=(2, 2)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "kernel"], ["middle"], name="first"),
        helper.make_node("MatMul", ["middle", "kernel"], ["y"], name="second"),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 2]) for name in "xy"]
    graph = helper.make_graph(nodes, "shared", values[:1], values[1:], [numpy_helper.from_array(kernel, "kernel")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    x = np.array([[1.0, -0.5]], np.float32)
    quantized = write_qdq(model, flavour, {"x": (-1.0, 1.0), "middle": (-3.0, 3.0)})
    assert sum(tensor.name == "kernel/quantized" for tensor in quantized.graph.initializer) == 1
    np.testing.assert_allclose(run_dense(quantized, x), run_dense(model, x), atol=0.1)


@each_flavour
def test_dead_channels_and_dead_tensors_give_zeros(flavour):
    model = write_qdq(
        dense(np.zeros((2, 2), np.float32), np.zeros(2, np.float32)), flavour, {"x": (0.0, 0.0), "y": (0.0, 0.0)}
    )
    np.testing.assert_array_equal(run_dense(model, np.zeros((1, 2), np.float32)), np.zeros((1, 2)))


def relu6() -> onnx.ModelProto:
    """Two convolutions with a ReLU6 each, whose inputs go far beyond 6."""
    rng = np.random.default_rng(0)
    nodes = []
    tensors = [numpy_helper.from_array(np.float32(value), name) for value, name in ((0, "floor"), (6, "ceiling"))]
    for number, source in ((1, "x"), (2, "clip1")):
        kernel = rng.normal(0, 4 / number, (8, 8, 1, 1)).astype(np.float32)
        tensors.append(numpy_helper.from_array(kernel, f"kernel{number}"))
        tensors.append(numpy_helper.from_array(rng.normal(size=8).astype(np.float32), f"bias{number}"))
        inputs = [source, f"kernel{number}", f"bias{number}"]
        nodes.append(helper.make_node("Conv", inputs, [f"conv{number}"], name=f"conv{number}"))
        clip = [f"conv{number}", "floor", "ceiling"]
        nodes.append(helper.make_node("Clip", clip, [f"clip{number}"], name=f"relu6_{number}"))
    nodes.append(helper.make_node("GlobalAveragePool", ["clip2"], ["y"], name="average"))
    source, target = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 8, side, side])
        for name, side in (("x", 5), ("y", 1))
    )
    graph = helper.make_graph(nodes, "relu6", [source], [target], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def relu6_ranges() -> tuple[np.ndarray, dict[str, tuple[float, float]]]:
    x = np.random.default_rng(1).uniform(0, 6, (4, 8, 5, 5)).astype(np.float32)
    histograms = collect_histograms(relu6(), tensors_to_calibrate(relu6()), [{"x": x}])
    return x, {name: min_max(histogram, CPU) for name, histogram in histograms.items()}


def test_what_a_clip_cuts_off_takes_no_steps():
    x, ranges = relu6_ranges()
    assert set(ranges) == {"x", "clip1", "clip2"}
    assert ranges["clip2"] == pytest.approx((0, 6))
    quantized = write_qdq(relu6(), cpu_flavour(), ranges)
    stored = weights(quantized)
    assert (stored["clip1/scale"], stored["clip1/zero_point"]) == (pytest.approx(6 / 255), 0)
    actual, expected = (run_dense(model, x) for model in (quantized, relu6()))
    difference = actual - expected
    assert np.sqrt(np.mean(difference**2)) < 0.12


def test_on_a_cpu_a_relu6_runs_inside_its_convolution(tmp_path):
    found = operators_that_run(write_qdq(relu6(), CPU, relu6_ranges()[1]), tmp_path)
    assert found["QLinearConv"] == 2
    assert not found["Conv"] + found["FusedConv"] + found["Clip"]


def test_a_layer_with_a_relu6_to_keep_stays_in_float_when_it_runs(tmp_path):
    x, ranges = relu6_ranges()
    model = write_qdq(relu6(), CPU, ranges, keep=["conv1"])
    onnx.checker.check_model(model, full_check=True)
    found = operators_that_run(model, tmp_path)
    assert found["QLinearConv"] == 1
    assert found["Conv"] + found["FusedConv"] == 1
    whole = write_qdq(relu6(), CPU, ranges, keep=["conv1", "conv2"])
    # What a Clip inside a convolution gives differs by a rounding on some CPUs.
    np.testing.assert_allclose(run_dense(whole, x), run_dense(relu6(), x), rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["extractor", "classifier"])
@pytest.mark.parametrize("kind", ["int8", "fp16"])
def test_tensorrt_parses_and_builds_it(request, name, kind):
    trt = pytest.importorskip("tensorrt_rtx")
    from vdeploy.export.onnx.float16 import to_float16

    stage = request.getfixturevalue(f"{name}_stage")
    model = write_qdq(stage.model, TENSORRT, ranges_of(stage)) if kind == "int8" else to_float16(stage.model)
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    parsed = parser.parse(model.SerializeToString())
    assert parsed, [str(parser.get_error(index)) for index in range(parser.num_errors)]
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM89, 0)
    profile = builder.create_optimization_profile()
    shapes = [(batch, *stage.inputs.shape[1:]) for batch in (1, 2, 4)]
    profile.set_shape(stage.source, *shapes)
    config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    assert engine is not None
    if name == "extractor":
        assert engine.nbytes < {"int8": 30e6, "fp16": 45e6}[kind]
