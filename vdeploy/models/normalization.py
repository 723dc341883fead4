"""The normalisation that heads apply first: features over the last axis, without gain and bias.

What a head sees then does not depend on the brightness and contrast of the camera, and training converges in half the
epochs (Ba et al. 2016, "Layer Normalization"). Without gain and bias, normalised features are constants of a training,
so that the training engine can compute them once.
"""

from __future__ import annotations

from typing import Any

from vdeploy.core.lazy_imports import load_keras, load_tensorflow

__all__ = ["NORMALIZATION", "NORMALIZATION_EPSILON", "normalization_layer", "normalize"]

NORMALIZATION = "normalize"
"""Name of the layer."""

NORMALIZATION_EPSILON = 1e-3
"""Added to the variance of the features before the square root."""


def normalization_layer() -> Any:
    """Returns the Keras layer that normalises features ``[B, t, F]`` over F."""
    keras: Any = load_keras()
    return keras.layers.LayerNormalization(epsilon=NORMALIZATION_EPSILON, center=False, scale=False, name=NORMALIZATION)


def normalize(features: Any, dtype: str) -> Any:
    """Normalise features over the last axis in float32, as `normalization_layer` does.

    Args:
        features: ``[..., F]`` of any float type.
        dtype: Type of the result.
    """
    tf: Any = load_tensorflow()
    features = tf.cast(features, tf.float32)
    centred = features - tf.reduce_mean(features, axis=-1, keepdims=True)
    variance = tf.reduce_mean(tf.square(centred), axis=-1, keepdims=True)
    return tf.cast(centred * tf.math.rsqrt(variance + NORMALIZATION_EPSILON), dtype)
