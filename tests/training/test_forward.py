"""The forward pass for training computes what the saved model computes, and its gradient."""

from __future__ import annotations

import numpy as np
import pytest

from training.classifier import build_classifier
from training.forward import DropoutMasks, draw_masks, normalize, probabilities
from training.frameworks import load_keras, load_tensorflow
from training.recipe import ModelSection


@pytest.fixture(scope="module")
def features() -> np.ndarray:
    return np.random.default_rng(0).gamma(0.5, 20, (6, 4, 24)).astype(np.float16)


def time_first(features: np.ndarray, dtype: str = "float32"):
    return normalize(features.transpose(1, 0, 2), dtype)


@pytest.mark.parametrize("compiled_by_xla", [False, True])
def test_outputs_and_gradients_are_those_of_the_model(features: np.ndarray, compiled_by_xla: bool) -> None:
    tf = load_tensorflow()
    model = build_classifier(4, 24, ModelSection(units=8, dense=5, dropout=0))
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
            output = probabilities(weights, features, None)
            loss = tf.reduce_sum(output * factors)
        return output, tape.gradient(loss, weights)

    output, gradients = ours([tf.convert_to_tensor(weight) for weight in weights], time_first(features))
    np.testing.assert_allclose(output, theirs, rtol=1e-5, atol=1e-6)
    for one, other in zip(gradients, their_gradients, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_dropout_multiplies_features_of_a_whole_clip_and_the_state(features: np.ndarray) -> None:
    keras, tf = load_keras(), load_tensorflow()
    model = build_classifier(4, 24, ModelSection(units=8, dense=5))
    masks = draw_masks(tf.constant([3, 4]), 6, 24, 8, 0.5, "float32")
    assert set(np.unique(masks.features)) == set(np.unique(masks.state)) == {0.0, 2.0}
    state = model.get_layer("lstm")(time_first(features).numpy().transpose(1, 0, 2) * masks.features.numpy()[:, None])
    rest = keras.Sequential([model.get_layer(name) for name in ("dense", "logits", "probabilities")])
    expected = rest(state * masks.state)
    actual = probabilities([variable.value for variable in model.trainable_variables], time_first(features), masks)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_that_of_kerass_mixed_policy(features: np.ndarray, dtype: str) -> None:
    """Only the product with the kernel is in half precision; Keras' recurrence is, too."""
    keras = load_keras()
    model = build_classifier(4, 24, ModelSection(units=8, dense=5, dropout=0))
    weights = [variable.value for variable in model.trainable_variables]
    exact = probabilities(weights, time_first(features), None).numpy()
    half = probabilities(weights, time_first(features, dtype), None).numpy()
    assert half.dtype == np.float32
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(f"mixed_{dtype}")
    try:
        mixed = build_classifier(4, 24, ModelSection(units=8, dense=5, dropout=0))
        mixed.set_weights(model.get_weights())
        theirs = mixed(features.astype(np.float32)).numpy()
    finally:
        keras.config.set_dtype_policy(before)
    error, their_error = np.abs(half - exact).max(), np.abs(theirs - exact).max()
    assert 0 < error < {"bfloat16": 5e-3, "float16": 5e-4}[dtype]
    assert error <= 2 * their_error


def test_dropout_keeps_the_mean_and_rate_0_draws_nothing() -> None:
    tf = load_tensorflow()
    assert draw_masks(tf.constant([0, 0]), 6, 24, 8, 0.0, "float32") is None
    masks = draw_masks(tf.constant([0, 1]), 200, 500, 8, 0.2, "float32")
    assert np.mean(masks.features) == pytest.approx(1, abs=0.01)
    assert not np.array_equal(masks.features, draw_masks(tf.constant([0, 2]), 200, 500, 8, 0.2, "float32").features)
    assert isinstance(masks, DropoutMasks)
