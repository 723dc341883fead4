"""What is known of an ONNX graph without running it: its tensors' types and shapes, and where its weights are used."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

from vdeploy.core.lazy_imports import require

if TYPE_CHECKING:
    import onnx

__all__ = ["LAYERS", "Value", "infer_values", "is_large", "weight_of", "without_weights"]

LAYERS = ("Conv", "Gemm", "LSTM", "MatMul")
"""Operators that multiply by weights, and so do all the work that counts."""

_LARGE_ELEMENTS = 1 << 14
_BETWEEN = ("Cast", "DequantizeLinear")


@dataclasses.dataclass(frozen=True)
class Value:
    """A tensor of a graph.

    Attributes:
        kind: A value of ``onnx.TensorProto.DataType``; 0 if unknown.
        shape: Its axes; ``None`` for one that is dynamic or unknown.
    """

    kind: int
    shape: tuple[int | None, ...]


def without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same model with large weights as inputs.

    Handing weights to the checker or to shape inference takes four times their size, and neither looks at them.
    """
    helper = require("onnx", extra="export", purpose="export to ONNX").helper
    graph = model.graph
    light = helper.make_graph(graph.node, graph.name, graph.input, graph.output)
    for tensor in graph.initializer:
        if is_large(tensor):
            light.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
        else:
            light.initializer.append(tensor)
    return helper.make_model(light, opset_imports=model.opset_import, ir_version=model.ir_version)


def is_large(tensor: onnx.TensorProto) -> bool:
    """Whether a tensor holds weights, not a shape or a scale."""
    return bool(math.prod(tensor.dims) > _LARGE_ELEMENTS)


def infer_values(model: onnx.ModelProto) -> dict[str, Value]:
    """Types and shapes of all tensors of a model, weights included, by name."""
    onnx = require("onnx", extra="export", purpose="export to ONNX")
    inferred = onnx.shape_inference.infer_shapes(without_weights(model), strict_mode=True).graph
    values = {
        value.name: Value(
            value.type.tensor_type.elem_type,
            tuple(axis.dim_value if axis.HasField("dim_value") else None for axis in value.type.tensor_type.shape.dim),
        )
        for value in (*inferred.input, *inferred.value_info, *inferred.output)
    }
    return values | {tensor.name: Value(tensor.data_type, tuple(tensor.dims)) for tensor in model.graph.initializer}


def weight_of(
    node: onnx.NodeProto, makers: dict[str, onnx.NodeProto], weights: dict[str, onnx.TensorProto]
) -> onnx.TensorProto | None:
    """The weights that a layer multiplies by, behind the nodes that only change their type.

    Args:
        node: The layer.
        makers: The node that makes each tensor.
        weights: The graph's initializers by name.

    Returns:
        The tensor as it is stored; ``None`` if the node multiplies two computed tensors.
    """
    name = node.input[1]
    while name in makers and makers[name].op_type in _BETWEEN:
        name = makers[name].input[0]
    return weights.get(name)
