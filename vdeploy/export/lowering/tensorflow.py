"""Both stages as plain TensorFlow over float32 variables: what the SavedModel and TFLite exports are made from.

They are written from the weights of the Keras models and never call them, so the precision policy of a training cannot
leak into an export, and a converter sees matrix products and element-wise operators only: no loop, no layer of Keras.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vdeploy.core.errors import ExportError
from vdeploy.core.lazy_imports import load_tensorflow
from vdeploy.models.backbones.vgg19.model import IMAGENET_MEAN_RGB, FeatureExtractor
from vdeploy.models.heads.lstm.model import NORMALIZATION_EPSILON

if TYPE_CHECKING:
    import keras

__all__ = ["ClassifierGraph", "ExtractorGraph"]

_WEIGHTED = ("lstm", "dense", "logits")
"""The classifier's layers that have weights."""


class ExtractorGraph:
    """VGG19 up to the layer that features come from.

    Args:
        extractor: VGG19 with its weights; its first convolution takes RGB.

    Attributes:
        size: Height and width of a frame in pixels.
        dim: Features of a frame, F.
        variables: The weights, float32.
    """

    def __init__(self, extractor: FeatureExtractor) -> None:
        self.size, self.dim = extractor.size, extractor.dim
        self._network = extractor.network
        self._weights = {layer.name: _variables(layer) for layer in extractor.network.layers if layer.weights}
        self.variables = [variable for pair in self._weights.values() for variable in pair]

    def __call__(self, pixels: Any) -> Any:
        """Computes features of frames.

        Args:
            pixels: ``float32[N, H, W, 3]``, RGB, 0 to 255.

        Returns:
            ``float32[N, F]``.
        """
        tf = load_tensorflow()
        # The mean stays a subtraction: folded into the bias it would be wrong at the borders, where padding is zero.
        values = {id(self._network.input): pixels - tf.constant(IMAGENET_MEAN_RGB, tf.float32)}
        for layer in self._network.layers[1:]:
            sources = layer.input if isinstance(layer.input, list) else [layer.input]
            values[id(layer.output)] = self._layer(layer, [values[id(source)] for source in sources])
        return values[id(self._network.output)]

    def _layer(self, layer: Any, inputs: list[Any]) -> Any:
        tf, kind, x = load_tensorflow(), type(layer).__name__, inputs[0]
        if layer.name in self._weights:
            kernel, bias = self._weights[layer.name]
            product = tf.nn.conv2d(x, kernel, 1, "SAME") if kind == "Conv2D" else tf.matmul(x, kernel)
            return tf.nn.relu(tf.nn.bias_add(product, bias))
        if kind == "MaxPooling2D":
            return tf.nn.max_pool2d(x, 2, 2, "VALID")
        if kind == "GlobalAveragePooling2D":
            return tf.reduce_mean(x, axis=(1, 2))
        if kind == "Flatten":
            return tf.reshape(x, (-1, x.shape[1] * x.shape[2] * x.shape[3]))
        if kind == "Rescaling":
            return x * layer.scale
        if kind == "Concatenate":
            return tf.concat(inputs, axis=-1)
        raise AssertionError(f"VGG19 has no layer of kind {kind}")


class ClassifierGraph:
    """Normalisation, LSTM, pooling over time, dense layer, softmax.

    See `vdeploy.models.heads.lstm.model.build_classifier`.

    The product of all T frames with the LSTM's kernel is one matrix product; the T small steps that are left are
    unrolled. Full-integer quantization needs that, and it is faster than a loop.

    Args:
        model: The Keras classifier.

    Attributes:
        frames: Frames of a clip, T.
        dim: Features of a frame, F.
        variables: The weights, float32.

    Raises:
        ExportError: The model has weights that this graph does not know.
    """

    def __init__(self, model: keras.Model) -> None:
        _, self.frames, self.dim = model.input_shape
        foreign = [layer.name for layer in model.layers if layer.weights and layer.name not in _WEIGHTED]
        if foreign:
            raise ExportError(
                f"the classifier has weights in {', '.join(foreign)} that export does not know", "train again"
            )
        self._means = model.get_layer("lstm").return_sequences
        self._lstm, self._dense, self._logits = (_variables(model.get_layer(name)) for name in _WEIGHTED)
        self.variables = [*self._lstm, *self._dense, *self._logits]

    def __call__(self, features: Any) -> Any:
        """Computes probabilities of clips.

        Args:
            features: ``float32[B, T, F]``.

        Returns:
            ``float32[B, 2]``.
        """
        tf = load_tensorflow()
        hidden = self._recurrence(self._projection(features))
        pooled = tf.reduce_mean(tf.stack(hidden), axis=0) if self._means else hidden[-1]
        dense = tf.nn.relu(_affine(pooled, self._dense))
        return tf.nn.softmax(_affine(dense, self._logits))

    def _projection(self, features: Any) -> Any:
        tf = load_tensorflow()
        kernel, _, bias = self._lstm
        rows = tf.reshape(features, (-1, self.dim))
        centred = rows - tf.reduce_mean(rows, axis=-1, keepdims=True)
        variance = tf.reduce_mean(tf.square(centred), axis=-1, keepdims=True)
        normal = centred * tf.math.rsqrt(variance + NORMALIZATION_EPSILON)
        projected = tf.nn.bias_add(tf.matmul(normal, kernel), bias)
        return tf.reshape(projected, (-1, self.frames, kernel.shape[-1]))

    def _recurrence(self, projection: Any) -> list[Any]:
        """All T hidden states; gates are in Keras' order input, forget, candidate, output."""
        tf = load_tensorflow()
        kernel = self._lstm[1]
        units = kernel.shape[0]
        hidden: list[Any] = []
        cell: Any = None
        for step in tf.unstack(projection, axis=1):
            total = step + tf.matmul(hidden[-1], kernel) if hidden else step
            # Slices, for the first step needs no forget gate: an output that nobody reads stays float in INT8 files.
            gate_in, gate_forget, candidate, gate_out = (total[:, k * units : (k + 1) * units] for k in range(4))
            new = tf.sigmoid(gate_in) * tf.tanh(candidate)
            cell = new if cell is None else tf.sigmoid(gate_forget) * cell + new
            hidden.append(tf.sigmoid(gate_out) * tf.tanh(cell))
        return hidden


def _variables(layer: Any) -> list[Any]:
    tf = load_tensorflow()
    return [
        tf.Variable(value.astype(np.float32), trainable=False, name=f"{layer.name}/{variable.name}")
        for variable, value in zip(layer.weights, layer.get_weights(), strict=True)
    ]


def _affine(x: Any, weights: list[Any]) -> Any:
    tf = load_tensorflow()
    kernel, bias = weights
    return tf.nn.bias_add(tf.matmul(x, kernel), bias)
