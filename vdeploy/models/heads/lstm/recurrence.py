"""An LSTM's recurrence over inputs that are projected already, with its gradient written out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vdeploy.core.lazy_imports import load_tensorflow

__all__ = ["recurrence"]


def recurrence(projection: Any, recurrent_kernel: Any, bias: Any, *, compiled: bool = False) -> Any:
    """All hidden states of an LSTM whose input projection has been computed for all time steps at once.

    The equations are those of `keras.layers.LSTM` (Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al.
    2000): with gates in Keras' order input, forget, candidate, output and ``a_t = x_t W + b + h_(t-1) R``,
    ``c_t = sigma(a_f) c_(t-1) + sigma(a_i) tanh(a_g)`` and ``h_t = sigma(a_o) tanh(c_t)``.

    What depends on the input only is one matrix product over all steps outside of this function; here, T small ones are
    left. The gradient is backpropagation through time by hand, so that everything that does not depend on the next step
    is computed for all steps at once, the gradients of ``R`` and ``b`` in one product each (a product with ones
    is several times faster than TensorFlow's deterministic sum). Steps are unrolled in the graph.

    Args:
        projection: ``x W``, ``float32[T, B, 4U]``; T is static.
        recurrent_kernel: ``R``, ``float32[U, 4U]``.
        bias: ``b``, ``float32[4U]``.
        compiled: Let XLA compile the recurrence and its gradient: that saves many passes over memory in large batches.

    Returns:
        ``float32[T, B, U]``.
    """
    tf: Any = load_tensorflow()
    function = tf.custom_gradient(_forward)
    if compiled:
        function = tf.function(function, autograph=False, jit_compile=True)
    states: Any = function(projection, recurrent_kernel, bias)
    return states


def _forward(projection: Any, kernel: Any, bias: Any) -> tuple[Any, Callable[[Any], tuple[Any, Any, Any]]]:
    tf: Any = load_tensorflow()
    hidden: list[Any] = []
    cells: list[Any] = []
    gates: list[Any] = []
    for step in tf.unstack(projection + bias):
        total = step + hidden[-1] @ kernel if hidden else step
        gate_in, gate_forget, candidate, gate_out = tf.split(total, 4, axis=-1)
        gate_in, gate_out, candidate = tf.sigmoid(gate_in), tf.sigmoid(gate_out), tf.tanh(candidate)
        gate_forget = tf.sigmoid(gate_forget)
        cell = gate_forget * cells[-1] + gate_in * candidate if cells else gate_in * candidate
        cells.append(cell)
        hidden.append(gate_out * tf.tanh(cell))
        gates.append((gate_in, gate_forget, candidate, gate_out))

    def gradient(upstream: Any) -> tuple[Any, Any, Any]:
        return _backward(upstream, kernel, hidden, cells, gates)

    return tf.stack(hidden), gradient


def _backward(
    upstream: Any, kernel: Any, hidden: list[Any], cells: list[Any], gates: list[tuple[Any, Any, Any, Any]]
) -> tuple[Any, Any, Any]:
    """Gradients of projection, recurrent kernel and bias from those of all hidden states, ``[T, B, U]``."""
    tf: Any = load_tensorflow()
    gate_in, gate_forget, candidate, gate_out = (tf.stack(values) for values in zip(*gates, strict=True))
    squashed = tf.tanh(tf.stack(cells))
    before = tf.stack([tf.zeros_like(cells[0]), *cells[:-1]])
    through_cell = tf.unstack(gate_out * (1 - tf.square(squashed)))
    by_cell = tf.unstack(
        tf.concat(
            [
                candidate * gate_in * (1 - gate_in),
                before * gate_forget * (1 - gate_forget),
                gate_in * (1 - tf.square(candidate)),
            ],
            axis=-1,
        )
    )
    by_hidden = tf.unstack(squashed * gate_out * (1 - gate_out))
    upstream = tf.unstack(upstream)
    transposed = tf.transpose(kernel)
    d_projection: list[Any] = []
    d_hidden, d_cell = upstream[-1], tf.zeros_like(cells[0])
    for step in reversed(range(len(cells))):
        d_cell += d_hidden * through_cell[step]
        d_total = tf.concat([tf.concat([d_cell] * 3, axis=-1) * by_cell[step], d_hidden * by_hidden[step]], axis=-1)
        d_projection.append(d_total)
        if step:
            d_hidden = upstream[step - 1] + d_total @ transposed
            d_cell *= gates[step][1]
    d_projection.reverse()
    by_step = tf.stack(d_projection)
    flat = tf.reshape(by_step, (-1, by_step.shape[-1]))
    d_bias = tf.squeeze(tf.ones((1, tf.shape(flat)[0])) @ flat, axis=0)
    if len(hidden) == 1:
        return by_step, tf.zeros_like(kernel), d_bias
    d_kernel = tf.matmul(tf.concat(hidden[:-1], axis=0), flat[tf.shape(hidden[0])[0] :], transpose_a=True)
    return by_step, d_kernel, d_bias
