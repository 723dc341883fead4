"""What an OpenVINO model really holds: the precision that its layers compute in, by their weights and inputs.

Nothing here asks what was wanted. A layer is INT8 only if its weights are stored in 8 bits and its input is quantized
to 256 levels at most; it is FP16 if its weights are stored so, also where they are widened again before they are used.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vdeploy.errors import BundleError
from vdeploy.export.layer_precision import LayerPrecision, precision_of
from vdeploy.export.openvino import read_openvino

__all__ = ["found_precision", "inspect_openvino", "layers_of"]

_WEIGHT_INPUTS = {
    "Convolution": (1,),
    "GroupConvolution": (1,),
    "MatMul": (1,),
    "LSTMCell": (3, 4),
    "LSTMSequence": (4, 5),
}
"""Operators that multiply by weights, and which of their inputs these are."""

_TRANSLATORS = {"Concat", "Convert", "Multiply", "Reshape", "Split", "Subtract", "Transpose", "VariadicSplit"}
"""What stands between a layer and its stored weights, or its quantized input; the first input leads to them."""

_LEVELS = 256
_EIGHT_BITS = {"i8", "u8"}
_NAMES = {"f32": "fp32", "f16": "fp16", "f64": "fp64"}
_BESIDE_BIAS = "/WithoutBiases"


def found_precision(file: Path) -> str:
    """The precision that the layers of an IR compute in; see `vdeploy.export.layer_precision.precision_of`.

    Args:
        file: The ``model.xml``.

    Raises:
        MissingExtraError: OpenVINO is not installed.
        BundleError: It is no IR, or holds no layer with weights.
    """
    return precision_of(inspect_openvino(file))


def inspect_openvino(file: Path) -> tuple[LayerPrecision, ...]:
    """The layers of an IR that multiply by weights, in order; arguments and errors as of `found_precision`."""
    return layers_of(read_openvino(file), file)


def layers_of(model: Any, file: Path) -> tuple[LayerPrecision, ...]:
    """The layers of a model that multiply by weights, in order.

    Args:
        model: As `vdeploy.export.openvino.read_openvino` reads it.
        file: Its file, for the error.

    Raises:
        BundleError: It holds none.
    """
    layers = tuple(_layers(model))
    if not layers:
        raise BundleError(f"{file} holds no layer with weights", "export the run again")
    return layers


def _layers(model: Any) -> Iterator[LayerPrecision]:
    for node in model.get_ordered_ops():
        operator = node.get_type_name()
        weights = [node.input(index).get_source_output() for index in _WEIGHT_INPUTS.get(operator, ())]
        sources = [_origin(weight) for weight in weights]
        if weights and all(source.get_type_name() == "Constant" for source in sources):
            stored = {source.get_element_type().get_type_name() for source in sources}
            elements = sum(math.prod(weight.get_partial_shape().to_shape()) for weight in weights)
            name = node.get_friendly_name().removesuffix(_BESIDE_BIAS)
            yield LayerPrecision(name, operator, _precision(node, stored), 2.0 * elements * _positions(node))


def _origin(output: Any) -> Any:
    """The node behind those that only change a tensor's type, scale or shape."""
    node = output.get_node()
    while node.get_type_name() in _TRANSLATORS:
        node = node.input(0).get_source_output().get_node()
    return node


def _precision(node: Any, stored: set[str]) -> str:
    source = _origin(node.input(0).get_source_output())
    is_quantized = source.get_type_name() == "FakeQuantize" and source.get_attributes()["levels"] <= _LEVELS
    if is_quantized and stored <= _EIGHT_BITS:
        return "int8"
    kinds = stored - _EIGHT_BITS or {node.get_output_element_type(0).get_type_name()}
    return "/".join(sorted(_NAMES.get(kind, kind) for kind in kinds))


def _positions(node: Any) -> int:
    """How often each weight is used for one row of the batch: at every position of the output."""
    shape = list(node.get_output_partial_shape(0))
    operator = node.get_type_name()
    if operator == "LSTMSequence":
        axes = list(node.input(0).get_source_output().get_partial_shape())[1:2]
    else:
        axes = shape[2:] if operator.endswith("Convolution") else shape[1:-1]
    return math.prod(axis.get_length() if axis.is_static else 1 for axis in axes)
