"""Which layers suffer most from eight bits: each is quantized alone, and what comes out is compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vdeploy.core.progress import track
from vdeploy.export.quantization.flavours import Flavour
from vdeploy.export.quantization.known_activations import KnownActivations
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
        The error of each layer: that of an output's row over the row's norm, the largest of a sample, the mean over
        samples; the most sensitive layer first. Rows count alike, as a verdict may depend on small ones.
    """
    names = [node.name for node in quantizable_layers(model)]
    known = KnownActivations(model, samples)
    errors: dict[str, float] = {}
    with track("rank layers", len(names), "layers") as step:
        for name in names:
            alone = write_qdq(model, flavour, ranges, keep=[other for other in names if other != name])
            pairs = zip(known.run(alone), known.outputs, strict=True)
            errors[name] = float(np.mean([_largest_error(*pair) for pair in pairs]))
            step.advance(note=name)
    return dict(sorted(errors.items(), key=lambda item: -item[1]))


def _largest_error(
    found: Mapping[str, npt.NDArray[np.float32]], expected: Mapping[str, npt.NDArray[np.float32]]
) -> float:
    errors = (
        np.linalg.norm(found[name] - rows, axis=-1) / np.maximum(np.linalg.norm(rows, axis=-1), 1e-12)
        for name, rows in expected.items()
    )
    return max(float(rows.max()) for rows in errors)
