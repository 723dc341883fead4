"""Kinds of INT8 graph: what is fast and exact in ONNX Runtime on a CPU, and what TensorRT accepts."""

from __future__ import annotations

import dataclasses

import numpy as np

__all__ = ["CPU", "FLAVOURS", "SATURATING_CPU", "TENSORRT", "Flavour"]


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
        weight_steps: Steps between zero and the largest weight of an output channel.
    """

    name: str
    signed: bool
    fused: bool
    weight_steps: int = 127

    @property
    def dtype(self) -> type[np.integer]:
        """Type of a quantized activation."""
        return np.int8 if self.signed else np.uint8

    @property
    def positive_levels(self) -> int:
        """Steps between zero and the largest value of a tensor that has no negative ones."""
        return 127 if self.signed else 255


CPU = Flavour("cpu", signed=False, fused=True)
"""For ONNX Runtime on a CPU with 8-bit dot products, such as VNNI."""

SATURATING_CPU = Flavour("cpu, 7-bit weights", signed=False, fused=True, weight_steps=63)
"""For a CPU without them, where the sum of two products is cut off at 16 bits: 2 x 255 x 63 is below that.

It is as fast there, and exact on every CPU. See `vdeploy.export.quantization.saturation`.
"""

TENSORRT = Flavour("tensorrt", signed=True, fused=False)
"""For TensorRT, which takes no other zero point and no quantized biases; ONNX Runtime runs it slower than float."""

FLAVOURS = {flavour.name: flavour for flavour in (CPU, SATURATING_CPU, TENSORRT)}
