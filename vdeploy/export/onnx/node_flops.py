"""Floating-point operations of one node of an ONNX graph, from its attributes and the shapes of its tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

__all__ = ["COUNTED", "RECURRENT", "Shape", "flops_of_node"]

_CONVOLUTIONS = {"Conv": 1, "ConvInteger": 1, "QLinearConv": 3}
"""Operators, and which of their inputs is the kernel."""

_PRODUCTS = ("MatMul", "MatMulInteger", "QLinearMatMul")
RECURRENT = ("GRU", "LSTM", "RNN")

COUNTED = frozenset({*_CONVOLUTIONS, *_PRODUCTS, *RECURRENT, "ConvTranspose", "Einsum", "Gemm"})
"""Operators whose work is counted."""

Shape = Sequence[int]


def flops_of_node(node: onnx.NodeProto, inputs: Sequence[Shape], output: Shape, *, has_state: bool = False) -> int:
    """Counts the operations of one node.

    - Convolution of k x k over an H x W map, C_in to C_out channels: ``2 H W k² C_in C_out``.
    - Product of M x K and K x N: ``2 M K N``.
    - LSTM, F inputs, U units, T steps (Hochreiter and Schmidhuber 1997, with forget gate): four gates, each a product
      with the input and with the hidden state, which is zero in the first step: ``2 · 4 U (T F + (T - 1) U)``.

    Args:
        node: A node of one of the operators in `COUNTED`.
        inputs: Shapes of its inputs.
        output: Shape of its first output.
        has_state: Whether a recurrent layer begins with a given hidden state.
    """
    kind, attributes = node.op_type, {attribute.name: attribute for attribute in node.attribute}
    if kind in _CONVOLUTIONS:
        return 2 * math.prod(output) * math.prod(inputs[_CONVOLUTIONS[kind]][1:])
    if kind == "ConvTranspose":
        return 2 * math.prod(inputs[0]) * math.prod(inputs[1][1:])
    if kind in RECURRENT:
        layout = attributes["layout"].i if "layout" in attributes else 0
        steps, rows = (inputs[0][1], inputs[0][0]) if layout else inputs[0][:2]
        recurrences = steps if has_state else steps - 1
        return 2 * rows * (steps * math.prod(inputs[1]) + recurrences * math.prod(inputs[2]))
    if kind == "Gemm":
        return 2 * output[1] * math.prod(inputs[0])
    if kind == "Einsum":
        return _einsum(attributes["equation"].s.decode(), inputs)
    return 2 * math.prod(output) * inputs[0][-1]


def _einsum(equation: str, inputs: Sequence[Shape]) -> int:
    sizes: dict[str, int] = {}
    for labels, shape in zip(equation.replace(" ", "").partition("->")[0].split(","), inputs, strict=False):
        before, dots, after = labels.partition("...")
        last = len(shape) - len(after)
        if dots:
            sizes[dots] = max(sizes.get(dots, 1), math.prod(shape[len(before) : last]))
        sizes |= zip(before, shape[: len(before)], strict=True)
        sizes |= zip(after, shape[last:], strict=True)
    return len(inputs) * math.prod(sizes.values())
