"""Floating-point operations and parameters of a network, counted from its exported ONNX graph.

Counted are the operators that multiply two tensors: convolutions, matrix products, Einsum and recurrent layers. A
multiply-add is two operations, in integers as well. Biases, activations, pooling, normalisation and gates are left out;
together they are under one percent of a network's work. The count is of the mathematics and the same for every format:
a Winograd convolution does fewer operations for the same result, and is rated as faster.

Shapes come from ONNX's shape inference, which runs nothing. Where it leaves an axis open, as behind a Reshape to a
computed shape, or where a Loop holds the products, the graph is run once on zeros in ONNX Runtime, whose profile lists
the shapes of all that was executed.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vdeploy.artifacts.onnx_graphs.tensors import infer_values, without_weights
from vdeploy.core.errors import ExportError, MissingExtraError
from vdeploy.core.lazy_imports import require
from vdeploy.export.onnx.external_weights import open_onnx
from vdeploy.export.onnx.node_flops import COUNTED, RECURRENT, Shape, flops_of_node

if TYPE_CHECKING:
    import onnx

__all__ = ["count_flops", "count_parameters"]

_INITIAL_STATE = 5
_SHAPED_INPUTS = 4
"""Among the first so many inputs are those whose shapes say how much a node computes."""

_RESHAPING = frozenset({"Cast", "Expand", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
_SCALED = frozenset({"DequantizeLinear", "QuantizeLinear"})
_PROFILED = "_kernel_time"
_PURPOSE = "counting operations"


def count_flops(model: onnx.ModelProto | Path, inputs: Mapping[str, Shape] | None = None) -> int:
    """Counts the floating-point operations of one call.

    Args:
        model: The graph, or its file.
        inputs: Shapes of the inputs by name, for example ``{"frames": (1, 16, 224, 224, 3)}``; those of fixed shape may
            be left out.

    Returns:
        Operations, a multiply-add counted as two.

    Raises:
        ExportError: The file is no ONNX model, the shape of an input is not known, or the graph does not run on it.
        MissingExtraError: The package onnx is not installed, or onnxruntime where the graph has to be run.
    """
    graph = _with_shapes(_loaded(model), inputs or {})
    known = _known_shapes(graph)
    total = 0
    for node in graph.graph.node:
        if _runs_counted_nodes(node):
            return _count_executed(graph)
        if node.op_type in COUNTED:
            names = [*filter(None, node.input[:_SHAPED_INPUTS]), node.output[0]]
            if any(name not in known for name in names):
                return _count_executed(graph)
            *taken, given = (known[name] for name in names)
            total += flops_of_node(node, taken, given, has_state=_has_state(graph, node))
    return total


def count_parameters(model: onnx.ModelProto | Path) -> int:
    """Counts the numbers that a graph stores as weights.

    Constants of the preprocessing, such as the mean of a channel, are among them, and so are both biases of an LSTM;
    `keras.Model.count_params` is exact where the Keras model is at hand. Scalars, shapes, and scales and zero points of
    quantization are left out.

    Args:
        model: The graph, or its file.

    Raises:
        ExportError: The file is no ONNX model.
        MissingExtraError: The package onnx is not installed.
    """
    types = require("onnx", extra="export", purpose=_PURPOSE).TensorProto
    graph = _loaded(model).graph
    scales = {name for node in graph.node if node.op_type in _SCALED for name in node.input[1:]}
    quantized = {node.input[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    floats = {types.FLOAT, types.FLOAT16, types.BFLOAT16, types.DOUBLE}
    return sum(
        int(math.prod(tensor.dims))
        for tensor in graph.initializer
        if tensor.dims and tensor.name not in scales and (tensor.data_type in floats or tensor.name in quantized)
    )


def _loaded(model: onnx.ModelProto | Path) -> onnx.ModelProto:
    if not isinstance(model, Path):
        return model
    try:
        return open_onnx(model)
    except MissingExtraError:
        raise
    except Exception as error:  # protobuf's and onnx's exceptions share no base class
        reason = str(error).strip().partition("\n")[0]
        raise ExportError(f"{model} is no ONNX model ({reason})", "export the run again") from error


def _with_shapes(model: onnx.ModelProto, inputs: Mapping[str, Shape]) -> onnx.ModelProto:
    """The graph with large weights as inputs, every input of a fixed shape, and a name for every node."""
    stored = {tensor.name for tensor in model.graph.initializer}
    light = without_weights(model)
    for value in light.graph.input:
        axes = value.type.tensor_type.shape.dim
        given = inputs.get(value.name, [axis.dim_value if axis.HasField("dim_value") else 0 for axis in axes])
        if value.name not in stored and (len(given) != len(axes) or not all(given)):
            shape = ", ".join(str(axis.dim_param or axis.dim_value or "?") for axis in axes)
            raise ExportError(
                f"the operations of {model.graph.name} cannot be counted: the shape of its input {value.name} is open",
                f"give a shape of the kind [{shape}]",
            )
        for axis, length in zip(axes, given, strict=True):
            axis.dim_value = length
    for index, node in enumerate(_all_nodes(light.graph)):
        node.name = f"node{index}"
    return light


def _known_shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """The shapes without an open axis; a computed tensor of shape () is one of unknown rank."""
    stored = {tensor.name for tensor in model.graph.initializer}
    known = {}
    for name, value in infer_values(model).items():
        axes = tuple(axis for axis in value.shape if axis is not None)
        if len(axes) == len(value.shape) and (axes or name in stored):
            known[name] = axes
    return known


def _all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _all_nodes(attribute.g)


def _runs_counted_nodes(node: onnx.NodeProto) -> bool:
    """Whether a node runs another graph in which there is something to count."""
    graphs = (attribute.g for attribute in node.attribute if attribute.HasField("g"))
    return any(inner.op_type in COUNTED for graph in graphs for inner in _all_nodes(graph))


def _has_state(model: onnx.ModelProto, node: onnx.NodeProto) -> bool:
    """Whether a recurrent layer is given a hidden state that is computed, not a constant."""
    if node.op_type not in RECURRENT or len(node.input) <= _INITIAL_STATE or not node.input[_INITIAL_STATE]:
        return False
    sources = {name: maker for maker in model.graph.node for name in maker.output}
    name = node.input[_INITIAL_STATE]
    while name in sources and sources[name].op_type in _RESHAPING:
        name = sources[name].input[0]
    is_constant = name in sources and sources[name].op_type in {"Constant", "ConstantOfShape"}
    return not is_constant and name not in {tensor.name for tensor in model.graph.initializer}


def _count_executed(model: onnx.ModelProto) -> int:
    """Runs a graph on zeros, large weights included, and counts what was executed."""
    nodes = {node.name: node for node in _all_nodes(model.graph)}
    total = 0
    for event in _profile(model):
        name = event["name"].removesuffix(_PROFILED)
        if event["name"].endswith(_PROFILED) and name in nodes and nodes[name].op_type in COUNTED:
            inputs = [_shape_of(entry) for entry in event["args"]["input_type_shape"]]
            output = _shape_of(event["args"]["output_type_shape"][0])
            total += flops_of_node(nodes[name], inputs, output, has_state=_has_state(model, nodes[name]))
    return total


def _shape_of(entry: Mapping[str, list[int]]) -> list[int]:
    """The shape in a profile's entry for a tensor, for example ``{"float": [1, 16, 64]}``."""
    return next(iter(entry.values()))


def _profile(model: onnx.ModelProto) -> list[dict[str, Any]]:
    onnxruntime = require("onnxruntime", extra="export", purpose=_PURPOSE)
    dtype_of = require("onnx", extra="export", purpose=_PURPOSE).helper.tensor_dtype_to_np_dtype
    feeds = {
        value.name: np.zeros(
            [axis.dim_value for axis in value.type.tensor_type.shape.dim], dtype_of(value.type.tensor_type.elem_type)
        )
        for value in model.graph.input
    }
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    options.enable_profiling = True
    with tempfile.TemporaryDirectory(prefix="vdeploy-profile-") as folder:
        options.profile_file_prefix = str(Path(folder) / "profile")
        try:
            session = onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
            session.run(None, feeds)
        except Exception as error:  # ONNX Runtime's exceptions share no base class
            reason = str(error).strip().partition("\n")[0]
            raise ExportError(
                f"the operations of {model.graph.name} cannot be counted ({reason})", "check the shapes of its inputs"
            ) from error
        events: list[dict[str, Any]] = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return events
