"""The search for an INT8 model that agrees with the float one: first over calibration methods, then over layers."""

from __future__ import annotations

import bisect
import dataclasses
import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from vdeploy.core.errors import ExportError
from vdeploy.core.progress import say
from vdeploy.export.quantization.agreement import Agreement
from vdeploy.export.quantization.flavours import Flavour
from vdeploy.export.quantization.histograms import collect_histograms
from vdeploy.export.quantization.qdq import Range, quantizable_layers, tensors_to_calibrate, write_qdq
from vdeploy.export.quantization.ranges import METHODS
from vdeploy.export.quantization.sensitivity import rank_layers

if TYPE_CHECKING:
    import numpy.typing as npt
    import onnx

__all__ = ["Judge", "Quantization", "quantize"]

_SENSITIVITY_SAMPLES = 4

Feeds = Callable[[], "Iterable[Mapping[str, npt.NDArray[Any]]]"]

Judge = Callable[["onnx.ModelProto", bool], Agreement]
"""Measures a candidate: on some of the held-out clips if the second argument is true, else on all of them."""


@dataclasses.dataclass(frozen=True)
class Quantization:
    """An INT8 model, and how it came about.

    Attributes:
        model: The model.
        flavour: Name of its flavour.
        method: The calibration method that was chosen.
        tried: What each method reached, by name; on some of the held-out clips.
        agreement: What the model reaches on all held-out clips.
        kept: Layers that could be quantized but stay in float, as verdicts or features need it; most sensitive first.
        float_only: Layers that no runtime has in eight bits.
    """

    model: onnx.ModelProto
    flavour: str
    method: str
    tried: dict[str, Agreement]
    agreement: Agreement
    kept: tuple[str, ...]
    float_only: tuple[str, ...]


def quantize(model: onnx.ModelProto, flavour: Flavour, feeds: Feeds, judge: Judge) -> Quantization:
    """Quantizes a float model so that its verdicts stay.

    The calibration method is chosen by agreement on some held-out clips. Where the best one is not good enough on all
    of them, as few of the most sensitive layers as possible go back to float.

    Args:
        model: The float model; it stays as it is.
        flavour: For which runtime.
        feeds: Gives the calibration inputs, by name; called more than once.
        judge: Measures a candidate.

    Returns:
        The model that agrees, and what was tried.

    Raises:
        ExportError: There is nothing to calibrate on, nothing to quantize, or no quantized model agrees.
    """
    layers = [node.name for node in quantizable_layers(model)]
    if not layers:
        raise ExportError(f"the graph {model.graph.name} has no layer to quantize", "export it in fp16")
    histograms = collect_histograms(model, tensors_to_calibrate(model), feeds())
    if not histograms:
        raise ExportError("there are no clips to calibrate on", "give the clips of the run: --data DIR")
    ranges = {
        method: {name: find(histogram, flavour) for name, histogram in histograms.items()}
        for method, find in METHODS.items()
    }
    tried = {method: judge(write_qdq(model, flavour, ranges[method]), True) for method in METHODS}
    method = max(tried, key=lambda name: tried[name].rank)
    say(f"quantize: {model.graph.name}, {flavour.name}: {method} agrees best of {', '.join(tried)}")
    agreements: dict[int, Agreement] = {}
    order: list[str] = []

    def quantized(in_float: int) -> onnx.ModelProto:
        return write_qdq(model, flavour, ranges[method], keep=order[:in_float])

    def agrees(in_float: int) -> bool:
        agreements[in_float] = judge(quantized(in_float), False)
        return agreements[in_float].is_good

    count: int | None = 0
    if not agrees(0):
        order = _by_sensitivity(model, flavour, ranges[method], feeds)
        count = _fewest(len(layers) - 1, agrees)
    if count is None:
        worst = agreements[max(agreements)]
        raise ExportError(
            f"{model.graph.name} does not agree with the reference in INT8 ({flavour.name}), whichever layers stay "
            f"in float: {100 * worst.top1:.1f} % equal verdicts on {worst.clips} clips, and a cosine of "
            f"{worst.worst_cosine:.3f} in the worst row",
            "export it in fp16",
        )
    if count:
        say(f"quantize: {model.graph.name}, {flavour.name}: {', '.join(order[:count])} stay in float")
    return Quantization(
        model=quantized(count),
        flavour=flavour.name,
        method=method,
        tried=tried,
        agreement=agreements[count],
        kept=tuple(order[:count]),
        float_only=tuple(node.name for node in model.graph.node if node.op_type == "LSTM"),
    )


def _fewest(most: int, agrees: Callable[[int], bool]) -> int | None:
    """The fewest layers in float, from 1 to `most`, with which a model agrees; more layers are taken to agree too."""
    count = min(1, most)
    while count and not agrees(count):
        count = 0 if count == most else min(2 * count, most)
    fewer = range(count // 2 + 1, count)
    return fewer.start + bisect.bisect_left(fewer, True, key=agrees) if count else None


def _by_sensitivity(model: onnx.ModelProto, flavour: Flavour, ranges: Mapping[str, Range], feeds: Feeds) -> list[str]:
    return list(rank_layers(model, flavour, ranges, list(itertools.islice(feeds(), _SENSITIVITY_SAMPLES))))
