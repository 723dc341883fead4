"""A trained head on rows of features, in portions that fit into memory."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from vdeploy.features.rows import FeatureRows

if TYPE_CHECKING:
    import keras
    import numpy.typing as npt

__all__ = ["predict"]

_BATCH = 512
_PORTION_BYTES = 1 << 28


def predict(model: keras.Model, features: FeatureRows) -> npt.NDArray[np.float32]:
    """Run a head in portions.

    Args:
        model: The Keras model of the head.
        features: ``[N, t, F]``.

    Returns:
        Probabilities ``float32[N, 2]``.
    """
    size = max(min(_PORTION_BYTES // (4 * math.prod(features.shape[1:])), _BATCH), 1)
    portions = [
        model(features[start : start + size].astype(np.float32), training=False).numpy()
        for start in range(0, len(features), size)
    ]
    return np.concatenate(portions)
