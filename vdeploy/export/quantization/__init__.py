"""Static post-training quantization to INT8: explicit Q/DQ nodes, ranges from real clips, verdicts that stay.

Example:
    >>> held_out = HeldOut(clips, features, classify, threshold=0.5)  # doctest: +SKIP
    >>> result = quantize(extractor_to_onnx(extractor), CPU, feeds, held_out.judge_extractor)  # doctest: +SKIP
"""

from __future__ import annotations

from vdeploy.export.quantization.agreement import Agreement
from vdeploy.export.quantization.flavours import CPU, FLAVOURS, TENSORRT, Flavour
from vdeploy.export.quantization.judges import HeldOut
from vdeploy.export.quantization.search import Quantization, quantize

__all__ = ["CPU", "FLAVOURS", "TENSORRT", "Agreement", "Flavour", "HeldOut", "Quantization", "quantize"]
