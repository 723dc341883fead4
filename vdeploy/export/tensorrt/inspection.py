"""What is in an engine that has been built: not what was asked for, but what the file and the library say.

Where the engine can be opened, on a GPU that it is for, TensorRT's `EngineInspector` lists the types of its layers.
Elsewhere the size of its weights tells: TensorRT stores a weight in the type that it computes in, so an engine that
fell back to float32 is twice or four times as large as its network says.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from vdeploy.errors import ExportError
from vdeploy.export.tensorrt.layers import WIDTHS, ComputeLayer, network_precision, weight_bytes_of
from vdeploy.export.tensorrt.options import Precision
from vdeploy.runtimes.tensorrt_plan import Plan

__all__ = [
    "engine_types",
    "engine_types_in",
    "precision_of_weights",
    "refuse_malformed",
    "refuse_other_types",
    "refuse_other_weights",
]

_SLACK = 1.25
_SLACK_BYTES = 1 << 16
"""Biases, scales, folded constants and padding come on top of the weights of the compute layers."""

_TYPES = {
    "fp32": ("float", "fp32"),
    "fp16": ("half", "fp16"),
    "bf16": ("bfloat16", "bf16"),
    "int8": ("int8",),
    "fp8": ("fp8",),
}
_WORDS = {word: precision for precision, words in _TYPES.items() for word in words}
_WORD = re.compile(r"\b(" + "|".join(_WORDS) + r")\b", re.IGNORECASE)


def refuse_malformed(trt: Any, runtime: Any, head: bytes) -> None:
    """Asks the library whether the first bytes of an engine are those of one, where it can tell.

    Without a GPU no engine is valid, but one that is not even well-formed has a diagnosis of its own.

    Args:
        trt: The library.
        runtime: Its runtime.
        head: The first bytes, `vdeploy.runtimes.tensorrt_plan.HEAD_BYTES` of them.

    Raises:
        ExportError: It is no engine.
    """
    if not hasattr(runtime, "get_engine_validity"):
        return
    _, diagnostics = runtime.get_engine_validity(head)
    if int(diagnostics) & int(trt.EngineInvalidityDiagnostics.MALFORMED_ENGINE):
        raise ExportError("what TensorRT built is no engine", "report this with the versions of vdeploy doctor")


def refuse_other_weights(plan: Plan, layers: Sequence[ComputeLayer]) -> None:
    """Compares the size of an engine's weights with that of its network's, where the file tells it.

    Raises:
        ExportError: The engine holds them in a wider type, or does not hold them all.
    """
    if plan.weight_bytes is None:
        return
    expected = weight_bytes_of(layers)
    found, wanted = f"{plan.weight_bytes / 1e6:.1f}", f"{expected / 1e6:.1f}"
    if plan.weight_bytes > _SLACK * expected + _SLACK_BYTES:
        raise ExportError(
            f"the engine holds {found} MB of weights, its network only {wanted} MB in {network_precision(layers)}: "
            "it computes in a wider type than it was given",
            "report this with the versions of vdeploy doctor and the builder's log",
        )
    if plan.weight_bytes < expected / _SLACK - _SLACK_BYTES:
        raise ExportError(
            f"the engine holds {found} MB of weights, its network {wanted} MB: some are missing",
            "report this with the versions of vdeploy doctor and the builder's log",
        )


def precision_of_weights(plan: Plan, layers: Sequence[ComputeLayer]) -> str | None:
    """The precision that the size of an engine's weights speaks for, whatever its network says.

    Returns:
        ``"fp32"``, ``"fp16"``, ``"int8"``, or ``None`` where the file does not tell or the size lies between.
    """
    parameters = sum(layer.parameters for layer in layers)
    if plan.weight_bytes is None or not parameters:
        return None
    for precision in ("int8", "fp16", "fp32"):
        exact = parameters * WIDTHS[precision]
        if exact / _SLACK <= plan.weight_bytes <= exact * _SLACK + _SLACK_BYTES:
            return precision
    return None


def engine_types(trt: Any, runtime: Any, blob: Any) -> dict[str, int] | None:
    """Opens an engine and counts the types of what its layers take.

    Args:
        trt: The library.
        runtime: Its runtime.
        blob: The engine.

    Returns:
        Number of layers' inputs by precision, or ``None`` where this machine cannot open the engine.
    """
    engine = runtime.deserialize_cuda_engine(blob)
    if engine is None:
        return None
    text = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    return engine_types_in(json.loads(text))


def engine_types_in(information: Mapping[str, Any]) -> dict[str, int]:
    """Counts the types of the inputs of all layers in what `EngineInspector` says of an engine."""
    found: Counter[str] = Counter()
    for layer in information.get("Layers", []):
        if not isinstance(layer, Mapping):
            continue
        for tensor in layer.get("Inputs", []):
            word = _WORD.search(str(tensor.get("Format/Datatype", tensor.get("DataType", ""))))
            if word:
                found[_WORDS[word[1].lower()]] += 1
    return dict(found)


def refuse_other_types(types: Mapping[str, int] | None, wanted: Precision) -> None:
    """Refuses an engine in which no layer takes the precision that was asked for.

    Args:
        types: What `engine_types` found; ``None`` and nothing mean that the engine does not tell.
        wanted: The precision.

    Raises:
        ExportError: It is another engine inside.
    """
    if types and wanted not in types:
        found = ", ".join(sorted(types))
        raise ExportError(
            f"asked for {wanted}, but the layers of the engine compute in {found}: it is {found} inside",
            "report this with the versions of vdeploy doctor and the builder's log",
        )
