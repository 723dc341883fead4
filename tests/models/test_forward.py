"""The forward pass for training computes what the saved model computes, and its gradient."""

from __future__ import annotations

import numpy as np
import pytest

from testing.models import build_lstm
from vdeploy.core.lazy_imports import load_keras, load_tensorflow
from vdeploy.models.heads.lstm.model import LSTMSettings
from vdeploy.models.heads.lstm.training_step import (
    Dropout,
    Pooling,
    draw_dropout,
    leave_out,
    probabilities,
    take_features,
)
from vdeploy.models.normalization import normalize


@pytest.fixture(scope="module")
def features() -> np.ndarray:
    return np.random.default_rng(0).gamma(0.5, 20, (6, 4, 24)).astype(np.float16)


def time_first(features: np.ndarray, dtype: str = "float32"):
    return normalize(features.transpose(1, 0, 2), dtype)


@pytest.mark.slow
@pytest.mark.parametrize("pooling", ["last", "mean"])
@pytest.mark.parametrize("compiled_by_xla", [False, True])
def test_outputs_and_gradients_are_those_of_the_model(
    features: np.ndarray, compiled_by_xla: bool, pooling: Pooling
) -> None:
    tf = load_tensorflow()
    model = build_lstm(4, 24, LSTMSettings(units=8, dense=5, dropout=0, pooling=pooling))
    weights = [variable.value for variable in model.trainable_variables]
    factors = tf.constant(np.random.default_rng(1).normal(size=(6, 2)), tf.float32)
    with tf.GradientTape() as tape:
        theirs = model(features.astype(np.float32), training=True)
        loss = tf.reduce_sum(theirs * factors)
    their_gradients = tape.gradient(loss, weights)

    @tf.function(jit_compile=compiled_by_xla)
    def ours(weights, features):
        with tf.GradientTape() as tape:
            tape.watch(weights)
            output = probabilities(weights, features, None, pooling=pooling)
            loss = tf.reduce_sum(output * factors)
        return output, tape.gradient(loss, weights)

    output, gradients = ours([tf.convert_to_tensor(weight) for weight in weights], time_first(features))
    np.testing.assert_allclose(output, theirs, rtol=1e-5, atol=1e-6)
    for one, other in zip(gradients, their_gradients, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("compiled_by_xla", [False, True])
def test_leaving_features_out_is_multiplying_them_by_zero(features: np.ndarray, compiled_by_xla: bool) -> None:
    keras, tf = load_keras(), load_tensorflow()
    model = build_lstm(4, 24, LSTMSettings(units=8, dense=5, pooling="last"))
    dropout = draw_dropout(tf.constant([3, 4]), 6, 24, 8, 0.5)
    assert dropout is not None
    assert dropout.groups == 8
    assert len(set(dropout.kept.numpy())) == 4
    assert set(np.unique(dropout.state)) == {0.0, 2.0}
    mask = np.isin(np.arange(24) // 3, dropout.kept) * np.float32(2)
    weights = [variable.value for variable in model.trainable_variables]
    factors = tf.constant(np.random.default_rng(1).normal(size=(6, 2)), tf.float32)
    rest = keras.Sequential([model.get_layer(name) for name in ("dense", "logits", "probabilities")])
    with tf.GradientTape() as tape:
        state = model.get_layer("lstm")(time_first(features).numpy().transpose(1, 0, 2) * mask)
        expected = rest(state * dropout.state)
        loss = tf.reduce_sum(expected * factors)
    their_gradients = tape.gradient(loss, weights)

    @tf.function(jit_compile=compiled_by_xla)
    def ours(weights, features):
        with tf.GradientTape() as tape:
            tape.watch(weights)
            output = probabilities(weights, leave_out(features, dropout), dropout)
            loss = tf.reduce_sum(output * factors)
        return output, tape.gradient(loss, weights)

    output, gradients = ours([tf.convert_to_tensor(weight) for weight in weights], time_first(features))
    np.testing.assert_allclose(output, expected, rtol=1e-5, atol=1e-6)
    for one, other in zip(gradients, their_gradients, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_rows_are_taken_without_what_is_left_out(features: np.ndarray, rate: float) -> None:
    tf = load_tensorflow()
    table, rows = tf.constant(features.reshape(24, 24)), tf.constant([[5, 2, 2], [0, 23, 7]])
    dropout = draw_dropout(tf.constant([3, 4]), 3, 24, 8, rate)
    expected = leave_out(tf.gather(table, rows), dropout)
    assert expected.shape == (2, 3, 24 if dropout is None else 18)
    np.testing.assert_array_equal(take_features(table, rows, dropout), expected)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_that_of_kerass_mixed_policy(features: np.ndarray, dtype: str) -> None:
    """Only the product with the kernel is in half precision; Keras' recurrence is, too."""
    keras = load_keras()
    model = build_lstm(4, 24, LSTMSettings(units=8, dense=5, dropout=0))
    weights = [variable.value for variable in model.trainable_variables]
    exact = probabilities(weights, time_first(features), None).numpy()
    half = probabilities(weights, time_first(features, dtype), None).numpy()
    assert half.dtype == np.float32
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(f"mixed_{dtype}")
    try:
        mixed = build_lstm(4, 24, LSTMSettings(units=8, dense=5, dropout=0))
        mixed.set_weights(model.get_weights())
        theirs = mixed(features.astype(np.float32)).numpy()
    finally:
        keras.config.set_dtype_policy(before)
    error, their_error = np.abs(half - exact).max(), np.abs(theirs - exact).max()
    assert 0 < error < {"bfloat16": 5e-3, "float16": 5e-4}[dtype]
    assert error <= 2 * their_error


@pytest.mark.slow
def test_every_group_is_dropped_as_often_as_the_rate_says_and_rate_0_draws_nothing() -> None:
    tf = load_tensorflow()
    assert draw_dropout(tf.constant([0, 0]), 6, 24, 8, 0.0) is None
    draws = [draw_dropout(tf.constant([0, step]), 20, 512, 8, 0.25) for step in range(400)]
    kept = np.stack([draw.kept for draw in draws])
    assert kept.shape == (400, 48)
    assert (np.diff(kept, axis=1) > 0).all()
    share = np.bincount(kept.ravel(), minlength=64) / 400
    assert share.min() > 0.65
    assert share.max() < 0.85
    assert np.mean([draw.state for draw in draws]) == pytest.approx(1, abs=0.01)
    assert isinstance(draws[0], Dropout)
