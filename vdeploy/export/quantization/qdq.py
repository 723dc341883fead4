"""Writing quantization into a graph as explicit QuantizeLinear and DequantizeLinear nodes.

`onnxruntime.quantization` writes graphs that agree as well and run as fast on a CPU. It is not used, as its percentile
and entropy methods keep the inner tensors of all calibration inputs in memory at once, it copies all weights several
times, and it puts nodes out of order: the first one is no longer the cast of the frames' bytes that TensorRT wants.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from vdeploy.core.errors import ExportError
from vdeploy.core.lazy_imports import require
from vdeploy.export.onnx.external_weights import weight_values
from vdeploy.export.quantization.flavours import Flavour

if TYPE_CHECKING:
    import numpy.typing as npt
    import onnx

__all__ = ["Range", "quantizable_layers", "tensors_to_calibrate", "write_qdq"]

Range = tuple[float, float]
"""The smallest and the largest value of a tensor that are told apart; what is beyond is clipped."""

_LAYERS = ("Conv", "Gemm", "MatMul")
_FUSABLE = ("Conv", "Gemm")
_ACTIVATIONS = ("Relu", "Clip")
_INT8_MAX = 127
_BIAS_MAX = 2.0**30


@dataclasses.dataclass(frozen=True)
class _Scale:
    """How a tensor is quantized: names of its scale and zero point, and the scale."""

    scale_name: str
    zero_name: str
    scale: float


def quantizable_layers(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Nodes of a float model that multiply by stored weights, but for LSTMs: no runtime has an 8-bit one."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return [node for node in model.graph.node if node.op_type in _LAYERS and node.input[1] in weights]


def tensors_to_calibrate(model: onnx.ModelProto) -> list[str]:
    """Tensors whose ranges `write_qdq` needs in one flavour or another: what layers read, and what they give."""
    layers = quantizable_layers(model)
    names = dict.fromkeys(node.input[0] for node in layers)
    return list(names | dict.fromkeys(_end(model.graph, node) for node in layers if node.op_type in _FUSABLE))


def write_qdq(
    model: onnx.ModelProto, flavour: Flavour, ranges: Mapping[str, Range], *, keep: Collection[str] = ()
) -> onnx.ModelProto:
    """Quantizes the layers of a float model.

    Args:
        model: The model; it stays as it is.
        flavour: How and where.
        ranges: Ranges of the tensors that `tensors_to_calibrate` names.
        keep: Names of layers that stay in float.

    Returns:
        A model with the same inputs, outputs and names of layers; the same bytes for the same input.

    Raises:
        ExportError: The range of a tensor is missing: it was left out of the calibration.
    """
    return _Writer(model, flavour, ranges, frozenset(keep)).write()


def _end(graph: onnx.GraphProto, layer: onnx.NodeProto) -> str:
    """The output of a layer, or of the Relu or Clip that is the only one to read it.

    What a Clip cuts off then takes no part of the 256 steps: a ReLU6 has the range 0 to 6 however large its input is.
    """
    output: str = layer.output[0]
    readers = [node for node in graph.node if output in node.input]
    return readers[0].output[0] if len(readers) == 1 and readers[0].op_type in _ACTIVATIONS else output


class _Writer:
    def __init__(
        self, model: onnx.ModelProto, flavour: Flavour, ranges: Mapping[str, Range], keep: frozenset[str]
    ) -> None:
        self._onnx = require("onnx", extra="export", purpose="export to ONNX")
        self._source = model.graph
        self._flavour = flavour
        self._ranges = ranges
        self._weights = {tensor.name: tensor for tensor in model.graph.initializer}
        layers = quantizable_layers(model)
        self._layers = {node.name for node in layers} - keep
        self._kept = {node.output[0] for node in layers if node.name in keep and flavour.fused}
        fused = [n for n in model.graph.node if n.name in self._layers and flavour.fused and n.op_type in _FUSABLE]
        self._ends = {_end(model.graph, node) for node in fused}
        self._scales: dict[str, _Scale] = {}
        self._names: dict[str, str] = {}
        self._shared: dict[str, tuple[str, npt.NDArray[np.float32]]] = {}
        self._stored: set[str] = set()
        self._result = self._onnx.ModelProto(
            ir_version=model.ir_version,
            opset_import=model.opset_import,
            producer_name=model.producer_name,
            graph=self._onnx.GraphProto(name=model.graph.name, input=model.graph.input, output=model.graph.output),
        )

    def write(self) -> onnx.ModelProto:
        for node in self._source.node:
            if node.name in self._layers:
                self._layer(node)
            elif node.op_type in _ACTIVATIONS and node.input[0] in self._kept:
                self._activation_of_kept(node)
            else:
                self._copy(node, [self._readable(name) for name in node.input])
                if node.op_type == "MaxPool" and self._flavour.fused and node.input[0] in self._scales:
                    self._scales[node.output[0]] = self._scales[node.input[0]]
                    self._quantize(node.output[0])
            for output in node.output:
                if output in self._ends:
                    self._quantize(output)
        return self._result

    def _readable(self, tensor: str) -> str:
        """What a float node reads for a tensor: its quantized form only where that is fused with what made it."""
        return self._names.get(tensor, tensor) if self._flavour.fused else tensor

    def _layer(self, node: onnx.NodeProto) -> None:
        source = node.input[0]
        if source not in self._names:
            self._quantize(source)
        axis = 0 if node.op_type == "Conv" else 1
        bias = self._array(node.input[2]) if len(node.input) > 2 and self._flavour.fused else None
        if bias is None and node.input[1] in self._shared:
            weight, scales = self._shared[node.input[1]]
        else:
            weight, scales = self._quantize_weight(node.input[1], axis, bias, self._scales[source].scale)
            self._shared[node.input[1]] = weight, scales
        inputs = [self._names[source], weight, *node.input[2:]]
        if bias is not None:
            inputs[2] = self._quantize_bias(node.input[2], bias, scales * np.float32(self._scales[source].scale))
        self._copy(node, inputs)

    def _activation_of_kept(self, node: onnx.NodeProto) -> None:
        """Writes a Relu or Clip as Max and Min: ONNX Runtime quantizes a float layer between 8-bit ones by itself.

        It does so where the layer's input is dequantized and its output, or the activation's behind it, is quantized
        again.
        """
        if node.op_type == "Clip":
            floor, *ceiling = node.input[1:]
            self._keep_weights(node.input[1:])
        else:
            floor, ceiling = "zero", []
            if floor not in self._stored:
                self._stored.add(self._store(floor, np.float32(0)))
        output = f"{node.output[0]}/above" if ceiling else node.output[0]
        self._node("Max", [node.input[0], floor], output)
        if ceiling:
            self._node("Min", [output, *ceiling], node.output[0])

    def _keep_weights(self, names: Iterable[str]) -> None:
        for name in names:
            if name in self._weights and name not in self._stored:
                self._stored.add(name)
                self._result.graph.initializer.add().CopyFrom(self._weights[name])

    def _copy(self, node: onnx.NodeProto, inputs: list[str]) -> None:
        self._keep_weights(inputs)
        added = self._result.graph.node.add()
        added.CopyFrom(node)
        added.input[:] = inputs

    def _quantize(self, tensor: str) -> None:
        """Puts a pair of nodes behind a tensor; what comes later reads the second one's output."""
        scale = self._scales.get(tensor) or self._scale(tensor)
        self._scales[tensor] = scale
        parameters = [scale.scale_name, scale.zero_name]
        self._node("QuantizeLinear", [tensor, *parameters], f"{tensor}/quantized")
        self._names[tensor] = self._node(
            "DequantizeLinear", [f"{tensor}/quantized", *parameters], f"{tensor}/dequantized"
        )

    def _scale(self, tensor: str) -> _Scale:
        if tensor not in self._ranges:
            raise ExportError(f"the tensor {tensor} was left out of the calibration", "report this as a bug")
        low, high = min(self._ranges[tensor][0], 0.0), max(self._ranges[tensor][1], 0.0)
        if self._flavour.signed:
            scale, zero = max(-low, high) / _INT8_MAX or 1.0, 0
        else:
            scale = (high - low) / 255 or 1.0
            zero = round(-low / scale)
        return _Scale(
            self._store(f"{tensor}/scale", np.float32(scale)),
            self._store(f"{tensor}/zero_point", self._flavour.dtype(zero)),
            float(np.float32(scale)),
        )

    def _quantize_weight(
        self, name: str, axis: int, bias: npt.NDArray[np.float32] | None, source_scale: float
    ) -> tuple[str, npt.NDArray[np.float32]]:
        values = self._array(name)
        others = tuple(index for index in range(values.ndim) if index != axis)
        scales = np.maximum(values.max(axis=others), -values.min(axis=others)) / self._flavour.weight_steps
        if bias is not None:
            # The bias is counted in steps of this scale times the input's: it must not overflow 32 bits.
            scales = np.maximum(scales, np.abs(bias) / (source_scale * _BIAS_MAX))
        scales = np.where(scales > 0, scales, 1).astype(np.float32)
        shape = [-1 if index == axis else 1 for index in range(values.ndim)]
        steps = values / scales.reshape(shape)
        del values
        np.rint(steps, out=steps)
        inputs = [
            self._store(f"{name}/quantized", steps.astype(np.int8)),
            self._store(f"{name}/scale", scales),
            self._store(f"{name}/zero_point", np.zeros(scales.shape, np.int8)),
        ]
        return self._node("DequantizeLinear", inputs, f"{name}/dequantized", axis=axis), scales

    def _quantize_bias(self, name: str, bias: npt.NDArray[np.float32], scales: npt.NDArray[np.float32]) -> str:
        inputs = [
            self._store(f"{name}/quantized", np.rint(bias / scales).astype(np.int32)),
            self._store(f"{name}/scale", scales),
            self._store(f"{name}/zero_point", np.zeros(scales.shape, np.int32)),
        ]
        return self._node("DequantizeLinear", inputs, f"{name}/dequantized", axis=0)

    def _array(self, name: str) -> npt.NDArray[np.float32]:
        values: npt.NDArray[np.float32] = weight_values(self._weights[name])
        return values

    def _store(self, name: str, values: npt.NDArray[Any] | np.generic) -> str:
        self._result.graph.initializer.append(self._onnx.numpy_helper.from_array(np.asarray(values), name))
        return name

    def _node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self._result.graph.node.append(
            self._onnx.helper.make_node(operator, inputs, [output], name=output, **attributes)
        )
        return output
