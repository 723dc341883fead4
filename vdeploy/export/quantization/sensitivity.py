"""Which layers suffer most from eight bits: each is quantized alone, and what comes out is compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vdeploy.core.progress import track
from vdeploy.export.onnx.activations import observe
from vdeploy.export.quantization.flavours import Flavour
from vdeploy.export.quantization.qdq import Range, quantizable_layers, write_qdq

if TYPE_CHECKING:
    import numpy.typing as npt
    import onnx

__all__ = ["rank_layers"]


def rank_layers(
    model: onnx.ModelProto,
    flavour: Flavour,
    ranges: Mapping[str, Range],
    samples: Sequence[Mapping[str, npt.NDArray[Any]]],
) -> dict[str, float]:
    """Quantizes one layer at a time.

    Args:
        model: The float model.
        flavour: How layers are quantized.
        ranges: Ranges of its tensors.
        samples: Inputs by name; a few are enough to tell layers apart.

    Returns:
        The error of each layer: that of the outputs over their norm; the most sensitive layer first.
    """
    names = [node.name for node in quantizable_layers(model)]
    outputs = [value.name for value in model.graph.output]
    expected = _run(model, outputs, samples)
    errors: dict[str, float] = {}
    with track("rank layers", len(names), "layers") as step:
        for name in names:
            alone = write_qdq(model, flavour, ranges, keep=[other for other in names if other != name])
            difference = _run(alone, outputs, samples) - expected
            errors[name] = float(np.linalg.norm(difference) / max(np.linalg.norm(expected), 1e-12))
            step.advance(note=name)
    return dict(sorted(errors.items(), key=lambda item: -item[1]))


def _run(
    model: onnx.ModelProto, outputs: Sequence[str], samples: Sequence[Mapping[str, npt.NDArray[Any]]]
) -> npt.NDArray[np.float32]:
    found = [values.reshape(-1) for result in observe(model, outputs, samples) for values in result.values()]
    return np.concatenate(found)
