"""What is in an engine that has been built: not what was asked for, but what the file and the library say.

Where the engine can be opened, on a GPU that it is for, TensorRT's `EngineInspector` lists the types of its layers.
Elsewhere the size of its weights tells: TensorRT stores a weight in the type that it computes in, so an engine that
fell back to float32 is twice or four times as large as its network says.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from vdeploy.artifacts.file_headers.tensorrt import HEAD_BYTES, Plan
from vdeploy.core.errors import ExportError
from vdeploy.export.tensorrt.layers import WIDTHS, ComputeLayer, network_precision, weight_bytes_of
from vdeploy.export.tensorrt.options import Precision
from vdeploy.inference.runtimes.tensorrt_library import Library, message_logger

__all__ = [
    "engine_types",
    "precision_of_weights",
    "refuse_other_types",
    "refuse_other_weights",
    "types_between_layers",
]

_REPORT = "report this with the versions of vdeploy doctor and the builder's log"

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
            _REPORT,
        )
    if plan.weight_bytes < expected / _SLACK - _SLACK_BYTES:
        raise ExportError(
            f"the engine holds {found} MB of weights, its network {wanted} MB: some are missing",
            _REPORT,
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


def engine_types(library: Library, blob: Any) -> dict[str, int] | None:
    """Opens an engine that has just been built, where that can be done, and counts the types inside of it.

    Args:
        library: The library that built it.
        blob: The engine.

    Returns:
        Number of tensors between layers by precision, or ``None`` where this machine cannot run the engine.

    Raises:
        ExportError: It is no engine, or cannot be opened although it is for this machine.
    """
    trt = library.module
    logger, log = message_logger(library)
    runtime = trt.Runtime(logger)
    if not _is_for_this_machine(trt, runtime, bytes(memoryview(blob)[:HEAD_BYTES])):
        return None
    engine = runtime.deserialize_cuda_engine(blob)
    if engine is None:
        raise ExportError(f"TensorRT cannot open the engine that it built ({log.first_error})", _REPORT)
    ends = {engine.get_tensor_name(index) for index in range(engine.num_io_tensors)}
    text = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    return types_between_layers(json.loads(text), ends)


def types_between_layers(information: Mapping[str, Any], ends: Collection[str]) -> dict[str, int]:
    """Counts the types in what `EngineInspector` says of an engine.

    Inputs and outputs of the engine do not count: they are float32 or uint8 whatever it computes in. An engine whose
    layers have been fused into one therefore tells nothing.

    Args:
        information: What the inspector said, as JSON.
        ends: Names of the engine's inputs and outputs.
    """
    found: Counter[str] = Counter()
    for layer in information.get("Layers", []):
        if not isinstance(layer, Mapping):
            continue
        for tensor in layer.get("Inputs", []):
            word = _WORD.search(str(tensor.get("Format/Datatype", tensor.get("DataType", ""))))
            if word and tensor.get("Name") not in ends:
                found[_WORDS[word[1].lower()]] += 1
    return dict(found)


def refuse_other_types(types: Mapping[str, int] | None, wanted: Precision) -> None:
    """Refuses an engine in which nothing has the precision that was asked for.

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
            _REPORT,
        )


def _is_for_this_machine(trt: Any, runtime: Any, head: bytes) -> bool:
    """Asks the library, where it can tell from the first bytes of an engine; `tensorrt` builds for this machine only.

    Raises:
        ExportError: They are not the first bytes of an engine.
    """
    if not hasattr(runtime, "get_engine_validity"):
        return True
    validity, diagnostics = runtime.get_engine_validity(head)
    if int(diagnostics) & int(trt.EngineInvalidityDiagnostics.MALFORMED_ENGINE):
        raise ExportError("what TensorRT built is no engine", _REPORT)
    return bool(validity != trt.EngineValidity.INVALID)
