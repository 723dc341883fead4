"""The two kinds of INT8 graph: what is fast in ONNX Runtime on a CPU, and what TensorRT accepts."""

from __future__ import annotations

import dataclasses

import numpy as np

__all__ = ["CPU", "FLAVOURS", "TENSORRT", "Flavour"]


@dataclasses.dataclass(frozen=True)
class Flavour:
    """How activations are quantized, and where.

    Weights are signed 8-bit numbers with a scale per output channel in every flavour.

    Attributes:
        name: What it is called.
        signed: Activations are symmetric int8 with zero point 0, else uint8 with a zero point of their own. uint8 uses
            all 256 levels for what comes out of a Relu, int8 half of them.
        fused: Outputs of layers are quantized as well, and biases to int32, so that ONNX Runtime runs a convolution,
            the Relu behind it and a pooling as 8-bit operators. Else only the inputs of layers are.
    """

    name: str
    signed: bool
    fused: bool

    @property
    def dtype(self) -> type[np.integer]:
        """Type of a quantized activation."""
        return np.int8 if self.signed else np.uint8

    @property
    def positive_levels(self) -> int:
        """Steps between zero and the largest value of a tensor that has no negative ones."""
        return 127 if self.signed else 255


CPU = Flavour("cpu", signed=False, fused=True)
"""For ONNX Runtime on a CPU with 8-bit dot products (VNNI); without them, sums of two products saturate at 16 bits."""

TENSORRT = Flavour("tensorrt", signed=True, fused=False)
"""For TensorRT, which takes no other zero point and no quantized biases; ONNX Runtime runs it slower than float."""

FLAVOURS = {flavour.name: flavour for flavour in (CPU, TENSORRT)}
