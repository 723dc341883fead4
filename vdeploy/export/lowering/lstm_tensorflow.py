"""The LSTM head as plain TensorFlow with its steps unrolled, written from the Keras weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vdeploy.core.errors import ExportError
from vdeploy.core.lazy_imports import load_tensorflow
from vdeploy.export.lowering.graphs import HeadGraph, variables_of
from vdeploy.models.normalization import NORMALIZATION_EPSILON

if TYPE_CHECKING:
    import keras

__all__ = ["LSTMGraph"]

_WEIGHTED = ("lstm", "dense", "logits")
"""The layers that have weights."""


class LSTMGraph(HeadGraph):
    """Normalisation, LSTM, pooling over time, dense layer, softmax.

    See `vdeploy.models.heads.lstm.model.LSTM`.

    The product of all T frames with the LSTM's kernel is one matrix product; the T small steps that are left are
    unrolled. Full-integer quantization needs that, and it is faster than a loop.

    Args:
        model: The Keras classifier.

    Raises:
        ExportError: The model has weights that this graph does not know.
    """

    def __init__(self, model: keras.Model) -> None:
        super().__init__(model)
        foreign = [layer.name for layer in model.layers if layer.weights and layer.name not in _WEIGHTED]
        if foreign:
            raise ExportError(
                f"the classifier has weights in {', '.join(foreign)} that export does not know", "train again"
            )
        self._means = model.get_layer("lstm").return_sequences
        self._lstm, self._dense, self._logits = (variables_of(model.get_layer(name)) for name in _WEIGHTED)
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


def _affine(x: Any, weights: list[Any]) -> Any:
    tf = load_tensorflow()
    kernel, bias = weights
    return tf.nn.bias_add(tf.matmul(x, kernel), bias)
