"""The hoisted LSTM is Keras' LSTM: same outputs, same gradients."""

from __future__ import annotations

import numpy as np
import pytest

from vdeploy.core.lazy_imports import load_keras, load_tensorflow
from vdeploy.models.heads.lstm.recurrence import recurrence


@pytest.mark.slow
@pytest.mark.parametrize("frames", [1, 2, 5])
@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("compiled", [False, True])
def test_outputs_and_gradients_are_those_of_keras(frames: int, sequences: bool, compiled: bool) -> None:
    tf, keras = load_tensorflow(), load_keras()
    random = np.random.default_rng(frames)
    features = tf.constant(random.normal(size=(5, frames, 12)), tf.float32)
    layer = keras.layers.LSTM(7, return_sequences=True, bias_initializer="random_normal")
    layer(features)
    factors = tf.constant(random.normal(size=(5, frames, 7)), tf.float32)
    if not sequences:
        factors *= tf.reshape(tf.one_hot(frames - 1, frames), (1, frames, 1))
    kernel, recurrent_kernel, bias = (variable.value for variable in layer.trainable_variables)

    @tf.function
    def both():
        with tf.GradientTape() as tape:
            theirs = layer(features)
            loss = tf.reduce_sum(theirs * factors)
        their_gradients = tape.gradient(loss, [kernel, recurrent_kernel, bias])
        with tf.GradientTape() as tape:
            projection = tf.transpose(features @ kernel, (1, 0, 2))
            ours = tf.transpose(recurrence(projection, recurrent_kernel, bias, compiled=compiled), (1, 0, 2))
            loss = tf.reduce_sum(ours * factors)
        return theirs, ours, their_gradients, tape.gradient(loss, [kernel, recurrent_kernel, bias])

    theirs, ours, their_gradients, our_gradients = both()
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    for ours, theirs in zip(our_gradients, their_gradients, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
