"""Running only what a changed layer changes: what comes before it, and beside it, is known from the float model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vdeploy.artifacts.onnx_graphs.tensors import Value, infer_values
from vdeploy.core.lazy_imports import require
from vdeploy.export.onnx.activations import observe
from vdeploy.export.quantization.qdq import tensors_to_calibrate

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import onnx

__all__ = ["KnownActivations"]

_LIMIT_BYTES = 1 << 28


class KnownActivations:
    """Inner values of a float model on a few samples: those nearest to its end, as many as memory may hold.

    Args:
        model: The float model.
        samples: Inputs by name.
        limit_bytes: Memory for the values of all samples.

    Attributes:
        outputs: The model's outputs by name, for each sample.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        samples: Sequence[Mapping[str, npt.NDArray[Any]]],
        *,
        limit_bytes: int = _LIMIT_BYTES,
    ) -> None:
        names = [value.name for value in model.graph.output]
        self._inner = frozenset(_last_tensors(model, limit_bytes // max(len(samples), 1))) - set(names)
        values = list(observe(model, [*names, *self._inner], samples))
        self._samples = [{**sample, **found} for sample, found in zip(samples, values, strict=True)]
        self.outputs = [{name: found[name] for name in names} for found in values]

    def run(self, quantized: onnx.ModelProto) -> Iterator[dict[str, npt.NDArray[np.float32]]]:
        """Run the float model with some of its layers quantized by `write_qdq`.

        Args:
            quantized: The model; names of tensors are those of the float one.

        Yields:
            Its outputs by name, for each sample.
        """
        part = _changed_part(quantized, self._inner)
        changed, given = [[value.name for value in values] for values in (part.graph.output, part.graph.input)]
        if not changed:
            yield from self.outputs
            return
        feeds = ({name: sample[name] for name in given} for sample in self._samples)
        for known, found in zip(self.outputs, observe(part, changed, feeds), strict=True):
            yield {**known, **found}


def _last_tensors(model: onnx.ModelProto, limit_bytes: int) -> Iterator[str]:
    """Tensors that layers read or give, from the end on, until those of one sample have so many bytes."""
    values, wanted, left = infer_values(model), set(tensors_to_calibrate(model)), float(limit_bytes)
    for node in reversed(model.graph.node):
        for name in wanted.intersection(node.output):
            left -= _bytes(values[name])
            if left < 0:
                return
            yield name


def _bytes(value: Value) -> float:
    """Those of one clip: the first axis may be dynamic, no other."""
    axes = [axis if place or axis else 1 for place, axis in enumerate(value.shape)]
    return math.inf if None in axes else 4 * math.prod(axis for axis in axes if axis)


def _changed_part(model: onnx.ModelProto, known: frozenset[str]) -> onnx.ModelProto:
    """The nodes that eight bits change, and what these need that is not known."""
    onnx = require("onnx", extra="export", purpose="export to ONNX")
    graph, changed = model.graph, set[str]()
    for node in graph.node:
        if node.op_type == "QuantizeLinear" or not changed.isdisjoint(_reads(node)):
            changed.update(node.output)
    outputs = [value for value in graph.output if value.name in changed]
    needed, nodes, given = {value.name for value in outputs}, [], known - changed
    for node in reversed(graph.node):
        if not needed.isdisjoint(set(node.output) - given):
            nodes.append(node)
            needed.update(_reads(node))
    part = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    part.graph.name = graph.name
    part.graph.node.extend(reversed(nodes))
    part.graph.output.extend(outputs)
    part.graph.input.extend(value for value in graph.input if value.name in needed)
    part.graph.input.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in sorted(given & needed)
    )
    part.graph.initializer.extend(tensor for tensor in graph.initializer if tensor.name in needed)
    return part


def _reads(node: onnx.NodeProto) -> set[str]:
    """Names of the tensors that a node reads, also inside its own graphs."""
    inner = (each for attribute in node.attribute for each in attribute.g.node)
    return set(node.input).union(*map(_reads, inner))
