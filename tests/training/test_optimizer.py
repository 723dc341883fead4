"""The fused optimizer does what Keras' AdamW does, and scales the loss as float16 needs it."""

from __future__ import annotations

import numpy as np
import pytest

from training.engine.optimizer import AdamW
from training.engine.schedule import learning_rate_schedule
from training.recipe import Recipe
from training.recipe_sections import OptimizerSection
from vdeploy.core.lazy_imports import load_keras, load_tensorflow


@pytest.mark.slow
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("size", [0.01, 10.0])
def test_updates_are_those_of_keras(size: float, scaled: bool) -> None:
    tf, keras = load_tensorflow(), load_keras()
    random = np.random.default_rng(0)
    first = [random.normal(size=(5, 3)).astype(np.float32), random.normal(size=3).astype(np.float32)]
    section = OptimizerSection(learning_rate=0.01, weight_decay=0.1, clip_norm=1.0)
    schedule = keras.optimizers.schedules.CosineDecay(0.01, 20)
    theirs = [keras.Variable(first[0], name="kernel"), keras.Variable(first[1], name="bias")]
    reference = keras.optimizers.AdamW(schedule, weight_decay=0.1, global_clipnorm=1.0)
    reference.exclude_from_weight_decay(var_names=["bias"])
    ours = [tf.Variable(value) for value in first]
    optimizer = AdamW(ours, section, schedule, scaled=scaled)

    @tf.function
    def update(gradients):
        optimizer.apply([gradient * optimizer.loss_scale() for gradient in gradients])

    for _ in range(10):
        gradients = [tf.constant(random.normal(size=value.shape) * size, tf.float32) for value in first]
        reference.apply(gradients, theirs)
        update(gradients)
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    assert optimizer.step.numpy() == 10


@pytest.mark.slow
def test_gradients_that_overflow_change_nothing_but_the_scale() -> None:
    tf = load_tensorflow()
    weight = tf.Variable([1.0, 2.0])
    optimizer = AdamW([weight], OptimizerSection(), lambda _: 0.1, scaled=True)
    update = tf.function(lambda gradient: optimizer.apply([gradient]))
    scale = optimizer.loss_scale().numpy()
    update(tf.constant([np.inf, 1.0], tf.float32))
    np.testing.assert_array_equal(weight, [1.0, 2.0])
    assert (optimizer.loss_scale().numpy(), optimizer.step.numpy()) == (scale / 2, 0)
    for _ in range(2000):
        update(tf.constant([1.0, 1.0]))
    assert (optimizer.loss_scale().numpy(), optimizer.step.numpy()) == (scale, 2000)


def test_the_learning_rate_grows_with_the_batch_where_the_recipe_says_so() -> None:
    def highest(batch: int, rule: str) -> float:
        recipe = Recipe.model_validate(
            {"training": {"batch": batch}, "optimizer": {"scale_learning_rate": rule, "warmup_epochs": 1}}
        )
        return float(learning_rate_schedule(recipe, 10)(10))

    assert highest(256, "none") == pytest.approx(1e-3)
    assert highest(256, "linear") == pytest.approx(8e-3)
    assert highest(32, "linear") == pytest.approx(1e-3)
