"""The classifier's forward pass for training: what `build_classifier` computes, arranged for speed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from training.classifier import NORMALIZATION_EPSILON
from training.frameworks import load_tensorflow
from training.lstm import recurrence

__all__ = ["DropoutMasks", "draw_masks", "normalize", "probabilities"]


class DropoutMasks(NamedTuple):
    """What values are multiplied with: 0, or one over the share that is kept.

    Attributes:
        features: ``[B, F]`` in the compute type; one mask for all frames of a clip.
        state: ``float32[B, U]``.
    """

    features: Any
    state: Any


def normalize(features: Any, dtype: str) -> Any:
    """Normalises features over the last axis in float32, as the model's first layer does.

    Args:
        features: ``[..., F]`` of any float type.
        dtype: Type of the result.
    """
    tf: Any = load_tensorflow()
    features = tf.cast(features, tf.float32)
    centred = features - tf.reduce_mean(features, axis=-1, keepdims=True)
    variance = tf.reduce_mean(tf.square(centred), axis=-1, keepdims=True)
    return tf.cast(centred * tf.math.rsqrt(variance + NORMALIZATION_EPSILON), dtype)


def draw_masks(seed: Any, batch: int, dim: int, units: int, rate: float, dtype: str) -> DropoutMasks | None:
    """Draws the dropout of one global batch (Srivastava et al. 2014), the same on every device.

    Features are dropped for a whole clip at once (Gal & Ghahramani 2016, "variational" dropout of a recurrent net).
    Sixteen random bits decide on a value, so the rate is exact to 1 / 65536.

    Args:
        seed: ``int32[2]``.
        batch: Clips of the global batch.
        dim: Features of a frame.
        units: Units of the LSTM.
        rate: Share of values that is dropped.
        dtype: Compute type of the features.

    Returns:
        The masks, or ``None`` at rate 0.
    """
    if not rate:
        return None
    tf: Any = load_tensorflow()
    width = dim + units
    words = tf.random.stateless_uniform((batch, (width + 1) // 2), seed, None, None, tf.uint32, alg="philox")
    halves = tf.reshape(tf.bitcast(words, tf.uint16), (batch, -1))
    kept = tf.cast(halves, tf.int32) >= round(rate * (1 << 16))
    return DropoutMasks(_scaled(kept[:, :dim], rate, dtype), _scaled(kept[:, dim:width], rate, "float32"))


def probabilities(weights: Sequence[Any], features: Any, masks: DropoutMasks | None) -> Any:
    """The model's output for normalised features.

    The product of all T frames with the LSTM's kernel is one matrix product in the type of the features; the recurrence
    and the dense layers are float32. Features are constants: nothing is propagated back into them.

    Args:
        weights: The trainable variables of `build_classifier`'s model in their order: kernel, recurrent kernel and bias
            of the LSTM, kernel and bias of the dense layer and of the logits; float32.
        features: ``[T, B, F]``, normalised, in the compute type.
        masks: Dropout of these clips, or ``None``.

    Returns:
        ``float32[B, 2]``.
    """
    tf: Any = load_tensorflow()
    kernel, recurrent_kernel, bias, dense_kernel, dense_bias, logits_kernel, logits_bias = weights
    frames, dim = features.shape[0], features.shape[-1]
    if masks is not None:
        features *= masks.features
    projection = tf.reshape(features, (-1, dim)) @ tf.cast(kernel, features.dtype)
    projection = tf.reshape(tf.cast(projection, tf.float32), (frames, -1, kernel.shape[-1]))
    state = recurrence(projection, recurrent_kernel, bias)[-1]
    if masks is not None:
        state *= masks.state
    hidden = tf.nn.relu(state @ dense_kernel + dense_bias)
    return tf.nn.softmax(hidden @ logits_kernel + logits_bias)


def _scaled(kept: Any, rate: float, dtype: str) -> Any:
    tf: Any = load_tensorflow()
    return tf.cast(kept, dtype) * tf.constant(1 / (1 - rate), dtype)
