"""What an OpenVINO model really holds: the precision that its layers compute in, by their weights and inputs.

Nothing here asks what was wanted. A layer is INT8 only if its weights are stored in 8 bits and its input is quantized
to 256 levels at most; it is FP16 if its weights are stored so, also where they are widened again before they are used.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from vdeploy.core.errors import BundleError
from vdeploy.export.openvino.convert import read_openvino
from vdeploy.export.verification.precision import LayerPrecision, precision_of

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
"""What may stand between a layer and its stored weights, or its quantized input; the first input leads to them."""

_LEVELS = 256
_EIGHT_BITS = {"i8", "u8"}
_NAMES = {"f32": "fp32", "f16": "fp16", "f64": "fp64"}
_BESIDE_BIAS = "/WithoutBiases"


def found_precision(file: Path) -> str:
    """The precision that the layers of an IR compute in; see `vdeploy.export.verification.precision.precision_of`.

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
        model: As `vdeploy.export.openvino.convert.read_openvino` reads it.
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
        if weights and not any(map(_is_computed, weights)):
            stored = {_origin(weight).get_element_type().get_type_name() for weight in weights}
            sizes = [math.prod(weight.get_partial_shape().to_shape()) for weight in weights]
            name = node.get_friendly_name().removesuffix(_BESIDE_BIAS)
            yield LayerPrecision(name, operator, _precision(node, stored), _flops(node, sizes))


def _inputs_of(node: Any) -> list[Any]:
    return [one.get_source_output() for one in node.inputs()]


def _is_computed(output: Any) -> bool:
    """Whether a tensor depends on what the model is given; weights do not, whatever their numbers go through."""
    waiting, seen = [output.get_node()], set()
    while waiting:
        node = waiting.pop()
        if node.get_type_name() == "Parameter":
            return True
        if node.get_name() not in seen:
            seen.add(node.get_name())
            waiting += [source.get_node() for source in _inputs_of(node)]
    return False


def _origin(output: Any) -> Any:
    """The output behind the nodes that only change a tensor's type, scale or shape: of stored weights, a constant's."""
    while output.get_node().get_type_name() in _TRANSLATORS:
        output = output.get_node().input(0).get_source_output()
    return output


def _is_quantized(output: Any) -> bool:
    """Whether a tensor has 256 values at most, by a quantization after which nothing but constants changes it."""
    node = output.get_node()
    operator = node.get_type_name()
    if operator == "FakeQuantize":
        return bool(node.get_attributes()["levels"] <= _LEVELS)
    if operator not in _TRANSLATORS:
        return False
    first, *others = _inputs_of(node)
    if operator == "Concat":
        return all(map(_is_quantized, (first, *others)))
    return _is_quantized(first) and not any(map(_is_computed, others))


def _precision(node: Any, stored: set[str]) -> str:
    if stored <= _EIGHT_BITS and _is_quantized(node.input(0).get_source_output()):
        return "int8"
    kinds = stored - _EIGHT_BITS or {node.get_output_element_type(0).get_type_name()}
    return "/".join(sorted(_NAMES.get(kind, kind) for kind in kinds))


def _flops(node: Any, sizes: Sequence[int]) -> float:
    """Operations of one row of the batch, counted as `vdeploy.export.onnx.node_flops.flops_of_node` counts them.

    Args:
        node: A layer with weights.
        sizes: Elements of each of its weights; each is used once at every position of the output.
    """
    shape = list(node.get_output_partial_shape(0))
    operator = node.get_type_name()
    if operator == "LSTMSequence":
        steps = _product(list(node.input(0).get_source_output().get_partial_shape())[1:2])
        return 2.0 * (steps * sizes[0] + (steps - 1) * sizes[1])
    return 2.0 * sum(sizes) * _product(shape[2:] if operator.endswith("Convolution") else shape[1:-1])


def _product(axes: Iterable[Any]) -> int:
    """Product of the axes; an open one counts as 1."""
    return math.prod(axis.get_length() if axis.is_static else 1 for axis in axes)
