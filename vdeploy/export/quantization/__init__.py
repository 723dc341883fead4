"""Static post-training quantization to INT8: explicit Q/DQ nodes, ranges from real clips, verdicts that stay.

Example:
    >>> held_out = HeldOut(clips, features, classify, threshold=0.5)  # doctest: +SKIP
    >>> model = extractor_to_onnx(extractor)  # doctest: +SKIP
    >>> result = quantize(model, cpu_flavour(), feeds, held_out.judge_extractor)  # doctest: +SKIP
"""

from __future__ import annotations

from vdeploy.export.quantization.agreement import Agreement
from vdeploy.export.quantization.flavours import CPU, FLAVOURS, SATURATING_CPU, TENSORRT, Flavour
from vdeploy.export.quantization.judges import HeldOut
from vdeploy.export.quantization.saturation import cpu_flavour
from vdeploy.export.quantization.search import Quantization, quantize

__all__ = [
    "CPU",
    "FLAVOURS",
    "SATURATING_CPU",
    "TENSORRT",
    "Agreement",
    "Flavour",
    "HeldOut",
    "Quantization",
    "cpu_flavour",
    "quantize",
]
