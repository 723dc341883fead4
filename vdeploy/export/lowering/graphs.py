"""Stages as plain TensorFlow over float32 variables: what the SavedModel and TFLite exports are made from.

The generic graphs call the Keras model, which was rebuilt in float32; a special case is written from the weights alone,
so that a converter sees matrix products and element-wise operators only: no loop, no layer of Keras.
"""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Any

import numpy as np

from vdeploy.core.lazy_imports import load_keras, load_tensorflow
from vdeploy.models.extractor import FeatureExtractor
from vdeploy.models.normalization import NORMALIZATION, normalize

if TYPE_CHECKING:
    import keras

__all__ = ["ExtractorGraph", "HeadGraph", "KerasExtractorGraph", "KerasHeadGraph", "variables_of"]


class ExtractorGraph(abc.ABC):
    """A backbone.

    Args:
        extractor: The backbone with its weights.

    Attributes:
        size: Height and width of a frame in pixels.
        frames: Frames of a clip, T, where the backbone looks at whole clips; ``None`` where it takes any number.
        steps: Steps in time of its features, t; ``None`` where t = T is free.
        dim: Features of a step, F.
        variables: The weights, float32.
    """

    def __init__(self, extractor: FeatureExtractor) -> None:
        self.size, self.frames = extractor.size, extractor.frames
        self.steps = None if extractor.frames is None else extractor.shape[0]
        self.dim = extractor.dim
        self.variables: list[Any] = []

    @abc.abstractmethod
    def __call__(self, pixels: Any) -> Any:
        """Compute features.

        Args:
            pixels: RGB, 0 to 255: ``float32[N, H, W, 3]`` frames, or ``float32[B, T, H, W, 3]`` whole clips.

        Returns:
            ``float32[N, F]``, or ``float32[B, t, F]``.
        """

    def features(self, frames: Any) -> Any:
        """Compute ``features float32[B, t, F]`` of ``frames uint8[B, T, H, W, 3]``."""
        tf = load_tensorflow()
        pixels = tf.cast(frames, tf.float32)
        if self.frames is not None:
            return tf.ensure_shape(self(pixels), (frames.shape[0], self.steps, self.dim))
        batch, time = tf.shape(frames)[0], tf.shape(frames)[1]
        flat = tf.reshape(pixels, (-1, self.size, self.size, 3))
        features = tf.reshape(self(flat), (batch, time, self.dim))
        # A reshape by tensors forgets that the number of frames was known.
        return tf.ensure_shape(features, (frames.shape[0], frames.shape[1], self.dim))


class KerasExtractorGraph(ExtractorGraph):
    """Any backbone, by its Keras model."""

    def __init__(self, extractor: FeatureExtractor) -> None:
        super().__init__(extractor)
        self._network: Any = extractor.network
        self.variables = [variable.value for variable in self._network.weights]

    def __call__(self, pixels: Any) -> Any:
        """Call the model; see `ExtractorGraph`."""
        return self._network(pixels, training=False)


class HeadGraph(abc.ABC):
    """A head.

    Args:
        model: Its Keras model.

    Attributes:
        frames: Steps in time of the features, t.
        dim: Features of a step, F.
        variables: The weights, float32.
    """

    def __init__(self, model: keras.Model) -> None:
        _, self.frames, self.dim = model.input_shape
        self.variables: list[Any] = []

    @abc.abstractmethod
    def __call__(self, features: Any) -> Any:
        """Compute probabilities of clips, ``float32[B, 2]``, from ``features float32[B, t, F]``."""


class KerasHeadGraph(HeadGraph):
    """Any head, by its Keras model; a normalisation at its beginning is written out, as INT8 converters need it."""

    def __init__(self, model: keras.Model) -> None:
        super().__init__(model)
        whole: Any = model
        self._normalized = any(layer.name == NORMALIZATION for layer in whole.layers)
        self._body: Any = whole
        if self._normalized:
            self._body = load_keras().Model(whole.get_layer(NORMALIZATION).output, whole.output)
        self.variables = [variable.value for variable in whole.weights]

    def __call__(self, features: Any) -> Any:
        """Call the model; see `HeadGraph`."""
        return self._body(normalize(features, "float32") if self._normalized else features, training=False)


def variables_of(layer: Any) -> list[Any]:
    """Copy the weights of a Keras layer into float32 variables, in its order."""
    tf = load_tensorflow()
    return [
        tf.Variable(value.astype(np.float32), trainable=False, name=f"{layer.name}/{variable.name}")
        for variable, value in zip(layer.weights, layer.get_weights(), strict=True)
    ]
