"""INT8 files are exact on CPUs without 8-bit dot products as well."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from vdeploy.export.quantization import CPU, SATURATING_CPU, Flavour, cpu_flavour
from vdeploy.export.quantization import saturation as module
from vdeploy.export.quantization.qdq import tensors_to_calibrate, write_qdq

CHANNELS = 64


def largest_products(flavour: Flavour):
    """A convolution that adds its channels, whose quantized weights are the largest, for inputs from 0 to 1."""
    sizes = (("x", 4), ("y", 1))
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, CHANNELS, size, size]) for name, size in sizes]
    nodes = [
        helper.make_node("Conv", ["x", "kernel", "bias"], ["sum"], name="sum"),
        helper.make_node("GlobalAveragePool", ["sum"], ["y"], name="average"),
    ]
    weights = {"kernel": np.ones((CHANNELS, CHANNELS, 1, 1)), "bias": np.zeros(CHANNELS)}
    tensors = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "sum", values[:1], values[1:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    ranges = {name: (0.0, 1.0 if name == "x" else CHANNELS) for name in tensors_to_calibrate(model)}
    return write_qdq(model, flavour, ranges)


def is_exact(flavour: Flavour, runtime: str = "onnxruntime") -> bool:
    file, inputs = largest_products(flavour).SerializeToString(), {"x": np.ones((1, CHANNELS, 4, 4), np.float32)}
    if runtime == "openvino":
        core = pytest.importorskip("openvino").Core()
        found = core.compile_model(core.read_model(file), "CPU")(inputs)[0]
    else:
        (found,) = onnxruntime.InferenceSession(file).run(None, inputs)
    return np.allclose(found, CHANNELS, rtol=0.01)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_no_sum_of_seven_bits_is_cut_off_on_any_machine(runtime: str):
    assert is_exact(SATURATING_CPU, runtime)


def test_eight_bits_are_taken_where_no_sum_is_cut_off():
    assert cpu_flavour() is (CPU if is_exact(CPU) else SATURATING_CPU)


def test_weights_have_seven_bits_where_sums_are_cut_off(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "sums_saturate", lambda: True)
    weights = {tensor.name: tensor for tensor in largest_products(cpu_flavour()).graph.initializer}
    assert np.abs(numpy_helper.to_array(weights["kernel/quantized"])).max() == 63
