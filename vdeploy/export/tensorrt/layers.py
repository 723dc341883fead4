"""The precision of a network, layer by layer, as TensorRT has parsed it.

A strongly typed network is computed in the types that it states: a convolution between dequantizations of int8 is an
int8 convolution, any other one has the type of what it is given. Only layers that multiply matrices count; they hold
the weights and take the time.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import re
from collections.abc import Iterable, Sequence
from typing import Any

from vdeploy.core.errors import ExportError
from vdeploy.export.tensorrt.options import Precision

__all__ = ["WIDTHS", "ComputeLayer", "compute_layers", "network_precision", "refuse_other_precision", "weight_bytes_of"]

WIDTHS: dict[str, int] = {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 1, "fp8": 1}
"""Bytes of a weight."""

_COMPUTE = {"CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY", "EINSUM"}
_MOVERS = {"SHUFFLE", "SQUEEZE", "UNSQUEEZE", "IDENTITY", "SLICE", "ITERATOR", "CAST", "QUANTIZE", "DEQUANTIZE"}
"""Layers that hand weights on: what stands before them still is the same weights."""

_MOVERS_OF_INT8 = _MOVERS - {"CAST", "QUANTIZE", "DEQUANTIZE"}
_NAMES = {"FLOAT": "fp32", "HALF": "fp16", "BF16": "bf16", "INT8": "int8", "FP8": "fp8"}
_ONNX_NAME = re.compile(r"\[ONNX Layer: ([^\]]+)\]")
_NAMED_LAYERS = 4


@dataclasses.dataclass(frozen=True)
class ComputeLayer:
    """A layer that multiplies matrices.

    Attributes:
        name: Name of the ONNX node that it comes from.
        kind: For example ``"convolution"``.
        precision: What it computes in: ``"fp32"``, ``"fp16"``, ``"int8"``, …
        parameters: Its weights, by number.
    """

    name: str
    kind: str
    precision: str
    parameters: int


def compute_layers(trt: Any, network: Any) -> tuple[ComputeLayer, ...]:
    """Lists the layers of a parsed network that multiply matrices.

    Args:
        trt: The library.
        network: Its `INetworkDefinition`.
    """
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    makers = {layer.get_output(index).name: layer for layer in layers for index in range(layer.num_outputs)}
    found, node = [], ""
    for layer in layers:
        node = _onnx_name(layer) or node
        if layer.type.name in _COMPUTE:
            found.append(_examine(trt, layer, node or layer.name, makers))
    return tuple(found)


def network_precision(layers: Iterable[ComputeLayer]) -> str:
    """One word for all layers, ``"int8"``, or what is mixed: ``"mixed: int8 in 15 layers, fp32 in block1_conv1"``."""
    by_precision: dict[str, list[str]] = {}
    for layer in layers:
        by_precision.setdefault(layer.precision, []).append(layer.name)
    if len(by_precision) < 2:
        return next(iter(by_precision), "none: no layer multiplies matrices")
    narrowest, *others = sorted(by_precision, key=lambda precision: WIDTHS.get(precision, WIDTHS["fp32"]))
    count = len(by_precision[narrowest])
    rest = ", ".join(f"{precision} in {_some(by_precision[precision])}" for precision in others)
    return f"mixed: {narrowest} in {count} layer{'s' * (count > 1)}, {rest}"


def refuse_other_precision(layers: Sequence[ComputeLayer], wanted: Precision, float_layers: Iterable[str] = ()) -> None:
    """Refuses a network that does not compute in the precision that was asked for.

    Args:
        layers: Its layers.
        wanted: The precision.
        float_layers: Patterns of layers that may compute in another.

    Raises:
        ExportError: A layer has another precision, or no layer has the wanted one.
    """
    patterns = tuple(float_layers)
    others = [
        layer
        for layer in layers
        if layer.precision != wanted and not any(fnmatch.fnmatchcase(layer.name, pattern) for pattern in patterns)
    ]
    if others:
        found = ", ".join(sorted({layer.precision for layer in others}))
        names = _some([layer.name for layer in others])
        raise ExportError(
            f"asked for {wanted}, but {len(others)} of {len(layers)} layers compute in {found}: {names}",
            f"give the engine an ONNX file in {wanted}",
        )
    if not any(layer.precision == wanted for layer in layers):
        raise ExportError(
            f"asked for {wanted}, but no layer computes in it", f"give the engine an ONNX file in {wanted}"
        )


def weight_bytes_of(layers: Iterable[ComputeLayer]) -> int:
    """Bytes of the weights of layers, each in the layer's precision."""
    return sum(layer.parameters * WIDTHS.get(layer.precision, WIDTHS["fp32"]) for layer in layers)


def _examine(trt: Any, layer: Any, name: str, makers: dict[str, Any]) -> ComputeLayer:
    operands = [tensor for index in range(min(layer.num_inputs, 2)) if (tensor := layer.get_input(index)) is not None]
    quantized = [_is_quantized(tensor, makers) for tensor in operands]
    given = operands[0].dtype.name
    return ComputeLayer(
        name=name,
        kind=layer.type.name.lower(),
        precision="int8" if len(quantized) > 1 and all(quantized) else _NAMES.get(given, given.lower()),
        parameters=_own_parameters(trt, layer) + sum(_constants(trt, tensor, makers) for tensor in operands),
    )


def _onnx_name(layer: Any) -> str:
    """The ONNX node of a layer; empty for the inner layers of an LSTM, which follow one that has the node's name."""
    named = _ONNX_NAME.search(layer.metadata or "")
    return named[1] if named else ""


def _is_quantized(tensor: Any, makers: dict[str, Any]) -> bool:
    """Whether a tensor was int8 before it was made float for a layer that TensorRT will compute in int8."""
    while (maker := makers.get(tensor.name)) is not None:
        if maker.type.name == "DEQUANTIZE":
            return bool(maker.get_input(0).dtype.name == "INT8")
        if maker.type.name not in _MOVERS_OF_INT8:
            return False
        tensor = maker.get_input(0)
    return False


def _constants(trt: Any, tensor: Any, makers: dict[str, Any]) -> int:
    while (maker := makers.get(tensor.name)) is not None and maker.type.name in _MOVERS:
        tensor = maker.get_input(0)
    if maker is None or maker.type.name != "CONSTANT":
        return 0
    maker.__class__ = trt.IConstantLayer
    return _product(maker.shape)


def _own_parameters(trt: Any, layer: Any) -> int:
    kinds = {"CONVOLUTION": "IConvolutionLayer", "DECONVOLUTION": "IDeconvolutionLayer"}
    if layer.type.name not in kinds:
        return 0
    layer.__class__ = getattr(trt, kinds[layer.type.name])
    return int(layer.kernel.size)


def _product(shape: Iterable[int]) -> int:
    result = 1
    for length in shape:
        result *= int(length)
    return result


def _some(layers: Iterable[str]) -> str:
    names = list(dict.fromkeys(layers))
    more = f" and {len(names) - _NAMED_LAYERS} more" if len(names) > _NAMED_LAYERS else ""
    return ", ".join(names[:_NAMED_LAYERS]) + more
