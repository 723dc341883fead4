"""ONNX files in the precisions that engines are built from, made in a few lines; nothing about them is accurate."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["product", "save", "to_float16", "to_int8"]

_SCALE = np.array(0.05, np.float32)
_WEIGHTED = {"Conv", "Gemm", "MatMul"}


def save(model: onnx.ModelProto, path: Path) -> Path:
    """Writes a model and returns its path."""
    path.write_bytes(model.SerializeToString())
    return path


def product(rows: int = 256, columns: int = 512, batch: int | str = "batch") -> onnx.ModelProto:
    """One matrix product, ``features float32[batch, rows]`` -> ``probabilities float32[batch, columns]``."""
    weight = np.random.default_rng(0).normal(size=(rows, columns)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["features", "weight"], ["probabilities"], name="product")],
        "product",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [batch, rows])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [batch, columns])],
        [numpy_helper.from_array(weight, "weight")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def to_float16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Computes in float16 between inputs and outputs that stay as they are."""
    half = onnx.ModelProto()
    half.CopyFrom(model)
    graph = half.graph
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    source, target = graph.input[0], graph.output[0].name
    for node in graph.node:
        node.output[:] = [f"{name}_half" if name == target else name for name in node.output]
    if source.type.tensor_type.elem_type == TensorProto.UINT8:
        graph.node[0].attribute[0].i = TensorProto.FLOAT16
    else:
        for node in graph.node:
            node.input[:] = [f"{name}_half" if name == source.name else name for name in node.input]
        graph.node.insert(0, helper.make_node("Cast", [source.name], [f"{source.name}_half"], to=TensorProto.FLOAT16))
    graph.node.append(helper.make_node("Cast", [f"{target}_half"], [target], to=TensorProto.FLOAT))
    return half


def to_int8(model: onnx.ModelProto, skip: Collection[str] = ()) -> onnx.ModelProto:
    """Puts symmetric Q/DQ before convolutions and products, per channel for weights; `skip` names nodes to leave."""
    quantized = onnx.ModelProto()
    quantized.CopyFrom(model)
    graph = quantized.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    graph.initializer.append(numpy_helper.from_array(_SCALE, "scale"))
    graph.initializer.append(numpy_helper.from_array(np.array(0, np.int8), "zero"))
    nodes = list(graph.node)
    del graph.node[:]
    for node in nodes:
        if node.op_type in _WEIGHTED and node.name not in skip:
            weight, data, name = node.input[1], node.input[0], f"{node.name}_input"
            _quantize_weight(graph, weights[weight], 0 if node.op_type == "Conv" else 1)
            graph.node.append(helper.make_node("QuantizeLinear", [data, "scale", "zero"], [f"{name}_int8"]))
            graph.node.append(helper.make_node("DequantizeLinear", [f"{name}_int8", "scale", "zero"], [name]))
            node.input[0], node.input[1] = name, f"{weight}_float"
        graph.node.append(node)
    return quantized


def _quantize_weight(graph: onnx.GraphProto, tensor: onnx.TensorProto, axis: int) -> None:
    name, value = tensor.name, numpy_helper.to_array(tensor)
    others = tuple(index for index in range(value.ndim) if index != axis)
    scale = np.maximum(np.abs(value).max(axis=others, keepdims=True), 1e-6) / 127
    tensor.CopyFrom(numpy_helper.from_array(np.rint(value / scale).astype(np.int8), f"{name}_int8"))
    graph.initializer.append(numpy_helper.from_array(scale.reshape(-1).astype(np.float32), f"{name}_scale"))
    graph.initializer.append(numpy_helper.from_array(np.zeros(scale.size, np.int8), f"{name}_zero"))
    graph.node.append(
        helper.make_node(
            "DequantizeLinear", [f"{name}_int8", f"{name}_scale", f"{name}_zero"], [f"{name}_float"], axis=axis
        )
    )
