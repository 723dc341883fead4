"""FP16 ONNX: the layers that do the work in float16, everything that needs more range or precision in float32.

Only convolutions, matrix products with weights and LSTMs are turned, and what stands behind them and only picks, moves
or compares numbers. So the cast of the frames' bytes and the subtraction of the mean, the search for the region where
things move and its resampling, the normalisation of the features, averages and the softmax stay in float32, and with
them the inputs and outputs of the model. float16 ends at 65504; a layer that has seen a value near that on real frames
stays in float32 as well. That has to be found in the float32 model: where a CPU has no float16 arithmetic, ONNX Runtime
computes such layers in float32 and would show no overflow.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from vdeploy.artifacts.onnx_graphs.tensors import LAYERS, infer_values
from vdeploy.core.errors import ExportError
from vdeploy.core.lazy_imports import require
from vdeploy.export.onnx.activations import float_activations, observe
from vdeploy.export.onnx.external_weights import weight_values

if TYPE_CHECKING:
    import numpy.typing as npt
    import onnx

__all__ = ["FLOAT16_MAX", "MARGIN", "find_wide_tensors", "to_float16"]

FLOAT16_MAX = 65504.0
"""The largest finite number in float16."""

MARGIN = 2.0
"""How much larger than on the sample frames a value may become on others."""

_FOLLOWERS = ("Add", "Concat", "Flatten", "MaxPool", "Relu", "Reshape", "Slice", "Squeeze", "Transpose")


def find_wide_tensors(
    model: onnx.ModelProto, feeds: Iterable[Mapping[str, npt.NDArray[Any]]], *, margin: float = MARGIN
) -> dict[str, float]:
    """Runs a float32 model on samples and finds the tensors that float16 may not hold.

    Args:
        model: The model.
        feeds: Sample inputs by name.
        margin: How much larger than on the samples a value may become.

    Returns:
        The largest magnitude of each tensor that is beyond ``FLOAT16_MAX / margin``, by name; empty if none is.
    """
    largest: dict[str, float] = {}
    for found in observe(model, float_activations(model), feeds):
        for name, values in found.items():
            largest[name] = max(largest.get(name, 0.0), float(np.abs(values).max()))
    return {name: value for name, value in largest.items() if value > FLOAT16_MAX / margin}


def to_float16(model: onnx.ModelProto, *, wide: Collection[str] = ()) -> onnx.ModelProto:
    """Turns a float32 model into float16 where that is safe.

    Args:
        model: The model; it stays as it is.
        wide: Tensors that float16 may not hold, as `find_wide_tensors` says: layers that read or write one of them stay
            in float32.

    Returns:
        A model with the same inputs and outputs. A layer's tensors keep their names; casts are put between the two
        types.

    Raises:
        ExportError: A weight is beyond float16.
    """
    return _Converter(model, frozenset(wide)).convert()


class _Converter:
    def __init__(self, model: onnx.ModelProto, wide: frozenset[str]) -> None:
        onnx = require("onnx", extra="export", purpose="export to ONNX")
        self._onnx = onnx
        self._source = model.graph
        self._float = {name for name, value in infer_values(model).items() if value.kind == onnx.TensorProto.FLOAT}
        self._float32_only = wide | {value.name for value in model.graph.output}
        self._weights = {tensor.name: tensor for tensor in model.graph.initializer}
        self._half: set[str] = set()
        self._made: set[str] = set()
        self._result = onnx.ModelProto(
            ir_version=model.ir_version,
            opset_import=model.opset_import,
            producer_name=model.producer_name,
            graph=onnx.GraphProto(name=model.graph.name, input=model.graph.input, output=model.graph.output),
        )

    def convert(self) -> onnx.ModelProto:
        for node in self._source.node:
            half = self._is_half(node)
            inputs = [self._input(name, half) for name in node.input]
            added = self._result.graph.node.add()
            added.CopyFrom(node)
            added.input[:] = inputs
            if half:
                self._half.update(self._float.intersection(node.output))
        return self._result

    def _is_half(self, node: onnx.NodeProto) -> bool:
        read = {name for name in node.input if name in self._float and name not in self._weights}
        if not self._float32_only.isdisjoint((*read, *node.output)):
            return False
        if node.op_type in LAYERS:
            return node.input[1] in self._weights
        return node.op_type in _FOLLOWERS and bool(read) and read <= self._half

    def _input(self, name: str, half: bool) -> str:
        """What a node reads for a tensor of the source, in the type that it computes in."""
        if name in self._weights:
            return self._weight(name, half and name in self._float)
        if name not in self._float or (name in self._half) == half:
            return name
        cast = f"{name}/{'fp16' if half else 'fp32'}"
        if cast not in self._made:
            self._made.add(cast)
            to = self._onnx.TensorProto.FLOAT16 if half else self._onnx.TensorProto.FLOAT
            self._result.graph.node.append(self._onnx.helper.make_node("Cast", [name], [cast], name=cast, to=to))
        return cast

    def _weight(self, name: str, half: bool) -> str:
        stored = f"{name}/fp16" if half else name
        if stored not in self._made:
            self._made.add(stored)
            tensor = self._result.graph.initializer.add()
            if half:
                self._turn(self._weights[name], tensor)
                tensor.name = stored
            else:
                tensor.CopyFrom(self._weights[name])
        return stored

    def _turn(self, source: onnx.TensorProto, target: onnx.TensorProto) -> None:
        values = weight_values(source)
        if max(values.max(), -values.min()) > FLOAT16_MAX:
            raise ExportError(f"the weight {source.name} is beyond float16 (65504)", "export it in fp32")
        target.dims.extend(source.dims)
        target.data_type = self._onnx.TensorProto.FLOAT16
        half = values.astype("<f2")
        del values
        data = half.tobytes()
        del half
        target.raw_data = data
