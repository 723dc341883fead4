"""The memory that an ONNX graph takes while it runs: its weights, and the most that is alive of its activations.

Shapes come from ONNX's shape inference, which runs nothing. A tensor is alive from the node that makes it to the last
that reads it, in the order of the graph. A node that writes over its input, such as an activation function, needs no
memory for its output, and ONNX Runtime joins most of these with the layer before.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from vdeploy.artifacts.onnx_graphs.tensors import infer_values, without_weights
from vdeploy.core.errors import BundleError
from vdeploy.core.lazy_imports import require

if TYPE_CHECKING:
    import onnx

__all__ = ["GraphMemory", "memory_of"]

_PURPOSE = "computing the memory of a model"

_RANK_IN_3D = 5
"""Axes of the weights of a 3-D convolution."""

_IN_PLACE = frozenset(
    (
        *("Add", "BatchNormalization", "Cast", "Clip", "Div", "Elu", "Erf", "Flatten", "HardSigmoid", "HardSwish"),
        *("Identity", "LeakyRelu", "Max", "Min", "Mul", "Neg", "PRelu", "Relu", "Reshape", "Sigmoid", "Softmax"),
        *("Sqrt", "Squeeze", "Sub", "Tanh", "Unsqueeze"),
    )
)
"""Operators that may write their output over an input of the same size that nothing else reads."""


@dataclasses.dataclass(frozen=True)
class GraphMemory:
    """What a graph takes.

    Attributes:
        weight_bytes: Its weights.
        packed_bytes: Those that a kernel keeps a second time in an order of its own. ONNX Runtime does not reorder the
            weights of 3-D convolutions, as its transformation to blocked channels (NCHWc) is for two dimensions.
        peak_bytes: The most bytes of activations, its inputs and outputs among them, that are alive at a time.
    """

    weight_bytes: int
    packed_bytes: int
    peak_bytes: int


def memory_of(model: onnx.ModelProto | Path, inputs: Mapping[str, tuple[int, ...]]) -> GraphMemory | None:
    """Computes what a graph takes for one call.

    Args:
        model: The graph, or its file.
        inputs: Shapes of its inputs by name.

    Returns:
        The bytes; `None` where a shape of the graph is only known when it runs.

    Raises:
        BundleError: The file is no ONNX model.
        MissingExtraError: The package onnx is not installed.
    """
    onnx = require("onnx", extra="export", purpose=_PURPOSE)
    graph = without_weights(_load(model) if isinstance(model, Path) else model)
    for taken in graph.graph.input:
        for axis, length in zip(taken.type.tensor_type.shape.dim, inputs.get(taken.name, ()), strict=False):
            axis.dim_value = length
    try:
        values = infer_values(graph)
    except onnx.shape_inference.InferenceError:
        return None
    sizes: dict[str, int] = {}
    for name, value in values.items():
        if value.kind and None not in value.shape:
            width = onnx.helper.tensor_dtype_to_np_dtype(value.kind).itemsize
            sizes[name] = math.prod(axis or 0 for axis in value.shape) * int(width)
    stored = {value.name for value in graph.graph.input if value.name not in inputs}
    stored |= {tensor.name for tensor in graph.graph.initializer}
    peak = _peak(graph.graph, sizes, stored)
    if peak is None:
        return None
    packed = {name for name in stored if name in sizes and len(values[name].shape) < _RANK_IN_3D}
    return GraphMemory(sum(sizes.get(name, 0) for name in stored), sum(sizes[name] for name in packed), peak)


def _load(file: Path) -> onnx.ModelProto:
    onnx = require("onnx", extra="export", purpose=_PURPOSE)
    try:
        return onnx.load(file, load_external_data=False)
    except Exception as error:  # protobuf's implementations share no base class
        raise BundleError(f"{file} is no ONNX model", "export the run again") from error


def _peak(graph: onnx.GraphProto, sizes: Mapping[str, int], stored: set[str]) -> int | None:
    given = {value.name for value in graph.output}
    last: dict[str, float] = {name: index for index, node in enumerate(graph.node) for name in node.input}
    last |= dict.fromkeys(given, math.inf)
    taken = [value.name for value in graph.input if value.name not in stored]
    if any(name not in sizes for name in taken):
        return None
    alive = {name: sizes[name] for name in taken}
    peak = sum(alive.values())
    for index, node in enumerate(graph.node):
        made = {name: sizes.get(name, 0 if name in given else None) for name in node.output if name}
        if None in made.values() or any(attribute.HasField("g") for attribute in node.attribute):
            return None
        reusable = [name for name in node.input if name in alive and last[name] == index]
        if node.op_type in _IN_PLACE and reusable:
            del alive[max(reusable, key=alive.__getitem__)]
        alive |= {name: size or 0 for name, size in made.items() if name in last}
        peak = max(peak, sum(alive.values()))
        for name in [name for name in alive if last[name] == index]:
            del alive[name]
    return peak
