"""Whether ONNX Runtime adds 8-bit products exactly on this machine.

x86 processors without 8-bit dot products (VNNI) add the products of two unsigned and two signed bytes in 16 bits, and
what does not fit is cut off. Large activations that meet large weights then count for less than they should. Weights of
seven bits cannot overflow.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from vdeploy.core.lazy_imports import require
from vdeploy.export.quantization.flavours import CPU, SATURATING_CPU, Flavour

__all__ = ["cpu_flavour", "sums_saturate"]

_PURPOSE = "quantizing to INT8"
_TERMS = 64


def cpu_flavour() -> Flavour:
    """How a model is quantized for the CPU of this machine.

    Raises:
        MissingExtraError: ONNX or ONNX Runtime is not installed.
    """
    return SATURATING_CPU if sums_saturate() else CPU


@functools.cache
def sums_saturate() -> bool:
    """Whether a sum of the largest products comes out too small.

    Raises:
        MissingExtraError: ONNX or ONNX Runtime is not installed.
    """
    onnx: Any = require("onnx", extra="export", purpose=_PURPOSE)
    onnxruntime: Any = require("onnxruntime", extra="onnx", purpose=_PURPOSE)
    helper, types = onnx.helper, onnx.TensorProto
    weights = np.full((_TERMS, 16), CPU.weight_steps, np.int8)
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["x", "weights"], ["y"])],
        "largest products",
        [helper.make_tensor_value_info("x", types.UINT8, [1, _TERMS])],
        [helper.make_tensor_value_info("y", types.INT32, None)],
        [onnx.numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": np.full((1, _TERMS), CPU.positive_levels, np.uint8)})
    return bool((found < _TERMS * CPU.positive_levels * CPU.weight_steps).any())
