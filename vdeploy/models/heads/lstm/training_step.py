"""The LSTM head's forward pass for training: what its Keras model computes, arranged for speed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from vdeploy.core.lazy_imports import load_tensorflow
from vdeploy.models.heads.lstm.recurrence import recurrence
from vdeploy.models.training_step import TrainingStep

__all__ = ["Dropout", "LSTMStep", "Pooling", "draw_dropout", "leave_out", "probabilities", "take_features"]

Pooling = Literal["last", "mean"]
"""What goes on from the LSTM: its last output, or the mean of its outputs."""

_GROUPS = 64
"""Features are dropped in at most so many groups of neighbours, so that what is kept can be copied in long pieces."""


class Dropout(NamedTuple):
    """What is left out of one step.

    Attributes:
        kept: Numbers of the groups of features that are kept, ascending, ``int32[K]``.
        groups: Groups in all, G; a group holds F / G neighbouring features.
        state: What the pooled state is multiplied with: 0, or one over the share that is kept; ``float32[B, U]``.
    """

    kept: Any
    groups: int
    state: Any


class LSTMStep(TrainingStep):
    """The fast step of the LSTM head.

    Args:
        units: Units of the LSTM.
        dropout: Share of values that is dropped.
        pooling: What goes on from the LSTM.
        compiled: Whether XLA compiles the recurrence.
    """

    def __init__(self, units: int, dropout: float, pooling: Pooling, *, compiled: bool) -> None:
        self._units, self._rate, self._pooling, self._compiled = units, dropout, pooling, compiled

    def draw(self, seed: Any, batch: int, dim: int) -> Dropout | None:
        """Draw the dropout of a step; see `draw_dropout`."""
        return draw_dropout(seed, batch, dim, self._units, self._rate)

    def of_replica(self, drawn: Any, clips: slice, replica: Any) -> Any:
        """Return the dropout of a replica's clips."""
        del replica
        return drawn if drawn is None else drawn._replace(state=drawn.state[clips])

    def gather(self, table: Any, rows: Any, drawn: Any) -> Any:
        """Gather features without those that are dropped; see `take_features`."""
        return take_features(table, rows, drawn)

    def leave_out(self, features: Any, drawn: Any) -> Any:
        """Copy the features that are kept; see `leave_out`."""
        return leave_out(features, drawn)

    def probabilities(self, weights: Sequence[Any], features: Any, drawn: Any) -> Any:
        """Compute the head's output; see `probabilities`."""
        return probabilities(weights, features, drawn, pooling=self._pooling, compiled=self._compiled)


def draw_dropout(seed: Any, batch: int, dim: int, units: int, rate: float) -> Dropout | None:
    """Draws the dropout of one global batch (Srivastava et al. 2014), the same on every device.

    Features are dropped for all frames of a clip at once (Gal & Ghahramani 2016, "variational" dropout of a recurrent
    net) and for all clips of a batch at once (Graham et al. 2015, "Efficient batchwise dropout training using
    submatrices"): the first matrix product, which is nearly all of the work, then leaves out the rows that would be
    multiplied by zero. The state behind the LSTM is dropped for each clip on its own; sixteen random bits decide on a
    value.

    Args:
        seed: ``int32[2]``.
        batch: Clips of the global batch.
        dim: Features of a frame.
        units: Units of the LSTM.
        rate: Share of values that is dropped.

    Returns:
        What to leave out, or ``None`` at rate 0.
    """
    if not rate:
        return None
    tf: Any = load_tensorflow()
    groups = math.gcd(dim, _GROUPS)
    words = tf.random.stateless_uniform(
        (groups + batch * ((units + 1) // 2),), seed, None, None, tf.uint32, alg="philox"
    )
    order = tf.argsort(tf.bitcast(words[:groups], tf.int32), stable=True)
    halves = tf.reshape(tf.bitcast(words[groups:], tf.uint16), (batch, -1))[:, :units]
    state = tf.cast(tf.cast(halves, tf.int32) >= round(rate * (1 << 16)), tf.float32) / (1 - rate)
    return Dropout(tf.sort(order[: max(round((1 - rate) * groups), 1)]), groups, state)


def leave_out(features: Any, dropout: Dropout | None) -> Any:
    """Copies the features that are kept.

    Args:
        features: ``[T, B, F]``.
        dropout: Names K of G groups of features.

    Returns:
        ``[T, B, F K / G]``.
    """
    if dropout is None:
        return features
    tf: Any = load_tensorflow()
    frames, dim = features.shape[0], features.shape[-1]
    pieces = tf.gather(tf.reshape(features, (frames, -1, dropout.groups, dim // dropout.groups)), dropout.kept, axis=2)
    return tf.reshape(pieces, (frames, -1, pieces.shape[2] * pieces.shape[3]))


def take_features(table: Any, rows: Any, dropout: Dropout | None) -> Any:
    """Gathers rows of a table without the features that are dropped: `leave_out` of its rows, in a single copy.

    Args:
        table: ``[N, F]``.
        rows: ``int32[T, B]``.
        dropout: Names K of G groups of features.

    Returns:
        ``[T, B, F]``, or ``[T, B, F K / G]``.
    """
    tf: Any = load_tensorflow()
    if dropout is None:
        return tf.gather(table, rows)
    width = table.shape[-1] // dropout.groups
    numbers = tf.cast(rows, tf.int64)[..., None] * dropout.groups + tf.cast(dropout.kept, tf.int64)
    pieces = tf.gather(tf.reshape(table, (-1, width)), numbers)
    return tf.reshape(pieces, (rows.shape[0], -1, dropout.kept.shape[0] * width))


def probabilities(
    weights: Sequence[Any],
    features: Any,
    dropout: Dropout | None,
    *,
    pooling: Pooling = "last",
    compiled: bool = False,
) -> Any:
    """The model's output for normalised features.

    The product of all T frames with the LSTM's kernel is one matrix product in the type of the features; the recurrence
    and the dense layers are float32. Features are constants: nothing is propagated back into them.

    Args:
        weights: The trainable variables of the head's Keras model in their order: kernel, recurrent kernel and bias
            of the LSTM, kernel and bias of the dense layer and of the logits; float32.
        features: ``[T, B, F]``, normalised, in the compute type; what is dropped is left out already.
        dropout: Dropout of these clips, or ``None``.
        pooling: What goes on from the LSTM.
        compiled: As in `vdeploy.models.heads.lstm.recurrence.recurrence`.

    Returns:
        ``float32[B, 2]``.
    """
    tf: Any = load_tensorflow()
    kernel, recurrent_kernel, bias, dense_kernel, dense_bias, logits_kernel, logits_bias = weights
    frames, dim = features.shape[0], features.shape[-1]
    if dropout is not None:
        kernel = _rows_of_groups(kernel, dropout)
    projection = tf.reshape(features, (-1, dim)) @ tf.cast(kernel, features.dtype)
    projection = tf.reshape(tf.cast(projection, tf.float32), (frames, -1, kernel.shape[-1]))
    if dropout is not None:
        projection *= dropout.groups / dropout.kept.shape[0]
    states = recurrence(projection, recurrent_kernel, bias, compiled=compiled)
    state = states[-1] if pooling == "last" else tf.reduce_mean(states, axis=0)
    if dropout is not None:
        state *= dropout.state
    hidden = tf.nn.relu(state @ dense_kernel + dense_bias)
    return tf.nn.softmax(hidden @ logits_kernel + logits_bias)


def _rows_of_groups(kernel: Any, dropout: Dropout) -> Any:
    """The kernel's rows of the groups that are kept, ``[F K / G, 4U]``.

    The gradient puts rows back by a gather, too, with zeros for what was dropped: TensorFlow's own gradient of a gather
    adds rows one by one.
    """
    tf: Any = load_tensorflow()
    groups, kept = dropout.groups, dropout.kept
    count, columns = kept.shape[0], kernel.shape[-1]

    def gradient(upstream: Any) -> Any:
        pieces = tf.reshape(upstream, (count, -1))
        pieces = tf.concat([pieces, tf.zeros_like(pieces[:1])], axis=0)
        matches = tf.cast(tf.range(groups)[:, None] == kept, tf.int32)
        places = tf.reduce_sum(matches * tf.range(count), axis=1) + count * (1 - tf.reduce_sum(matches, axis=1))
        return tf.reshape(tf.gather(pieces, places), kernel.shape)

    def rows(values: Any) -> tuple[Any, Any]:
        taken = tf.gather(tf.reshape(values, (groups, -1)), kept)
        return tf.reshape(taken, (-1, columns)), gradient

    return tf.custom_gradient(rows)(kernel)
