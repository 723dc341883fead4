"""The precision of a TFLite file, read out of its weights and of what its operators compute with."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vdeploy.export.tflite.flatbuffer import load_schema, open_model

__all__ = ["found_precision"]

_FLOATS = {"FLOAT16", "FLOAT32", "FLOAT64", "BFLOAT16"}
_INTEGERS = {"INT4", "INT8", "INT16"}
_CUSTOM = "CUSTOM "
_TRANSLATORS = {"DEQUANTIZE", "QUANTIZE"}


def found_precision(path: Path) -> str:
    """Reads the precision out of a TFLite file.

    Operators that translate between float and integer do not count, so a full-integer file may have float inputs and
    outputs; one that falls back to float in between shows by the operators that compute there.

    Args:
        path: The file.

    Returns:
        ``"fp32"``; ``"int8"``, where no operator computes in float; ``"mixed (...)"`` with the types of the weights,
        the operators that compute in float and those that do not; ``"foreign (...)"`` with operators that are not
        builtin ones, which LiteRT alone cannot run.

    Raises:
        MissingExtraError: LiteRT is not installed.
        BundleError: The file is no TFLite file.
    """
    model = open_model(path)
    foreign = sorted({name.removeprefix(_CUSTOM) for name, _ in _operators(model) if name.startswith(_CUSTOM)})
    if foreign:
        return f"foreign ({', '.join(foreign)})"
    floating: set[str] = set()
    integer: set[str] = set()
    for name, types in _operators(model):
        if name not in _TRANSLATORS:
            if types & _FLOATS:
                floating.add(name)
            if types & _INTEGERS:
                integer.add(name)
    weights = _weights(model)
    if weights == {"INT8"} and not floating:
        return "int8"
    if weights == {"FLOAT32"} and not integer:
        return "fp32"
    parts = {"weights": weights, "float operators": floating, "integer operators": integer}
    return f"mixed ({'; '.join(f'{part} {_listing(names)}' for part, names in parts.items())})"


def _operators(model: Any) -> Iterator[tuple[str, set[str]]]:
    """Name of each operator and the types of the tensors that it reads and writes."""
    names = [_name(model.OperatorCodes(index)) for index in range(model.OperatorCodesLength())]
    for number in range(model.SubgraphsLength()):
        graph = model.Subgraphs(number)
        for index in range(graph.OperatorsLength()):
            operator = graph.Operators(index)
            inputs = [operator.Inputs(place) for place in range(operator.InputsLength())]
            outputs = [operator.Outputs(place) for place in range(operator.OutputsLength())]
            tensors = [tensor for tensor in (*inputs, *outputs) if tensor >= 0]
            yield names[operator.OpcodeIndex()], {_type_names()[graph.Tensors(tensor).Type()] for tensor in tensors}


def _weights(model: Any) -> set[str]:
    """Types of the constants that are not indices or biases of a quantized product."""
    types = set()
    for number in range(model.SubgraphsLength()):
        graph = model.Subgraphs(number)
        for index in range(graph.TensorsLength()):
            tensor = graph.Tensors(index)
            if model.Buffers(tensor.Buffer()).DataLength():
                types.add(_type_names()[tensor.Type()])
    return types & (_FLOATS | _INTEGERS)


def _name(code: Any) -> str:
    # Files of older converters have the operator in the deprecated field.
    number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
    name = _operator_names()[number]
    return f"{_CUSTOM}{code.CustomCode().decode()}" if name == "CUSTOM" else name


def _listing(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "none"


@functools.cache
def _operator_names() -> dict[int, str]:
    return {number: name for name, number in vars(load_schema().BuiltinOperator).items() if isinstance(number, int)}


@functools.cache
def _type_names() -> dict[int, str]:
    return {number: name for name, number in vars(load_schema().TensorType).items() if isinstance(number, int)}
