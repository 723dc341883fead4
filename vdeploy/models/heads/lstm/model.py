"""The classifier: a sequence of VGG19 features in, the probability of violence out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from training.recipe import ModelSection
from vdeploy.core.lazy_imports import load_keras

if TYPE_CHECKING:
    import keras

__all__ = ["NORMALIZATION_EPSILON", "build_classifier"]

NORMALIZATION_EPSILON = 1e-3
"""Added to the variance of a frame's features before the square root."""


def build_classifier(frames: int, dim: int, section: ModelSection) -> keras.Model:
    """LSTM, pooling over time, dense layer, softmax.

    Features of each frame are normalised over their F values first (Ba et al. 2016, "Layer Normalization"): what the
    network sees does then not depend on the brightness and contrast of the camera, and training settles in half the
    epochs. Gain and bias of the normalisation are left out, for the kernel and the bias of the LSTM behind it do the
    same; without them, normalised features are constants of the training. `training_step` is the fast twin of this
    model for training; it reads the weights in this order.

    The pooling is the LSTM's last output, or the mean of all T outputs (Ng et al. 2015, "Beyond Short Snippets: Deep
    Networks for Video Classification", section 3.4, combine an LSTM's outputs over time as well): a blow in the middle
    of a clip then counts as much as one at its end.

    Args:
        frames: Frames of a clip, T.
        dim: Features of a frame, F.
        section: Sizes, pooling and dropout.

    Returns:
        A model ``features float32[B, T, F]`` -> ``probabilities float32[B, 2]`` (non-violent, violent).
    """
    keras: Any = load_keras()
    layers = keras.layers
    features = keras.Input((frames, dim), name="features", dtype="float32")
    x = layers.LayerNormalization(epsilon=NORMALIZATION_EPSILON, center=False, scale=False, name="normalize")(features)
    x = layers.Dropout(section.dropout, noise_shape=(1, 1, dim), name="dropout_features")(x)
    x = layers.LSTM(section.units, return_sequences=section.pooling == "mean", name="lstm")(x)
    if section.pooling == "mean":
        x = layers.GlobalAveragePooling1D(name="mean")(x)
    x = layers.Dropout(section.dropout, name="dropout_lstm")(x)
    x = layers.Dense(section.dense, activation="relu", name="dense")(x)
    x = layers.Dense(2, name="logits")(x)
    probabilities = layers.Softmax(dtype="float32", name="probabilities")(x)
    return keras.Model(features, probabilities, name="lstm_classifier")
