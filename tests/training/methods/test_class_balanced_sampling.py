"""Class-balanced sampling draws both classes equally often; the effective number of clips is that of its paper."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from training.engine.choose_trainer import make_trainer
from training.engine.epoch_plan import FeatureSplit, plan_epoch
from training.engine.losses import balanced_weights, class_weights, effective_weights
from training.engine.trainer import Trainer
from training.experiments.ablation import ladder
from training.methods.class_balanced_sampling import class_pools, draw_clips
from training.recipe import Recipe, load_recipe
from training.recipe_sections import AugmentSection
from vdeploy.core.errors import RecipeError
from vdeploy.features.prediction import predict

LABELS = (np.arange(48) % 8 == 0).astype(np.int64)
"""Six violent clips among 48."""


def split() -> FeatureSplit:
    features = np.random.default_rng(0).normal(size=(48, 4, 6)) + LABELS[:, None, None]
    return FeatureSplit(features.astype(np.float16), LABELS)


def recipe(*overrides: str) -> Recipe:
    sizes = ("training.epochs=1", "training.batch=8", "head.units=4", "head.dense=4", "training.precision=float32")
    return load_recipe("default", [*sizes, *overrides])


def test_both_classes_are_drawn_equally_often_and_no_clip_twice_as_often_as_another_of_its_class() -> None:
    pools = class_pools(LABELS)
    counts = np.bincount(draw_clips(np.random.default_rng(1), pools, 45), minlength=48)
    assert sorted((counts[LABELS == 0].sum(), counts[LABELS == 1].sum())) == [22, 23]
    for label in (0, 1):
        assert np.ptp(counts[label == LABELS]) <= 1
    odd = [np.sum(LABELS[draw_clips(np.random.default_rng(seed), pools, 45)]) for seed in range(20)]
    assert set(odd) == {22, 23}


def test_over_the_epochs_every_clip_of_the_frequent_class_is_drawn_alike() -> None:
    plans = [
        plan_epoch(split(), (0, epoch), 8, np.ones(2, np.float32), AugmentSection(), class_pools(LABELS)).rows
        for epoch in range(400)
    ]
    counts = np.bincount(np.concatenate(plans).ravel(), minlength=48)
    np.testing.assert_allclose(counts[LABELS == 0], 400 * 24 / 42, rtol=0.25)
    np.testing.assert_allclose(counts[LABELS == 1], 400 * 24 / 6, rtol=0.05)


def test_without_pools_an_epoch_is_the_permutation_that_it_always_was() -> None:
    plan = plan_epoch(split(), (3, 5), 8, np.ones(2, np.float32), AugmentSection())
    np.testing.assert_array_equal(plan.rows.ravel(), np.random.default_rng((3, 5)).permutation(48))


def test_a_training_takes_the_clips_that_are_drawn(tmp_path: Path) -> None:
    """Without learning, the epoch's loss is the mean over the clips drawn, of both classes alike."""
    options = ("optimizer.learning_rate=1e-12", "head.dropout=0", "loss.gamma=0", "loss.label_smoothing=0")
    chosen = recipe(*options, "loss.alpha=[1, 1]", "sampling.balance=classes")
    trainer = Trainer(chosen, split(), split(), tmp_path)
    trainer.fit()
    each = -np.log(predict(trainer.model, split().features)[np.arange(48), LABELS])
    drawn = draw_clips(np.random.default_rng((chosen.training.seed, 1)), class_pools(LABELS), 48)
    assert np.mean(LABELS[drawn]) == 0.5
    assert trainer.history[0].loss == pytest.approx(each[drawn].mean(), abs=1e-5)
    assert abs(each[drawn].mean() - each.mean()) > 5e-4


def test_a_balanced_alpha_counts_what_is_drawn(tmp_path: Path) -> None:
    labels, half = np.eye(2, dtype=np.float32), np.full((2, 2), 0.5, np.float32)
    for balance, ratio in (("classes", 1), ("instances", 7)):
        trainer = Trainer(
            recipe(f"sampling.balance={balance}", "loss.label_smoothing=0"), split(), split(), tmp_path / balance
        )
        negative, positive = np.asarray(trainer._loss(labels, half))
        assert positive / negative == pytest.approx(ratio, rel=1e-5)


def test_effective_weights_are_the_formula_of_the_paper() -> None:
    labels, beta = np.repeat([0, 1], [1000, 10]), 0.99
    numbers = [(1 - beta**count) / (1 - beta) for count in (1000, 10)]
    expected = np.array([1 / number for number in numbers])
    np.testing.assert_allclose(effective_weights(labels, beta), 2 * expected / expected.sum(), rtol=1e-9)
    assert effective_weights(labels, 0.0) == (1, 1)
    ratio = np.divide(*effective_weights(labels, 1 - 1e-9))
    assert ratio == pytest.approx(np.divide(*balanced_weights(labels)), rel=1e-4)
    assert class_weights(0.99, labels) == effective_weights(labels, 0.99)
    assert class_weights("none", labels) == (1, 1)
    assert class_weights("balanced", labels) == balanced_weights(labels)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["loss.class_weights=1.0"], 'class_weights must be "balanced", "none" or a beta from 0 to below 1'),
        (["loss.class_weights=often"], r"loss\.class_weights: .*got 'often'"),
        (["sampling.balance=sources"], r"sampling\.balance: .*got 'sources'"),
        (["sampling.balance=classes", "loss.class_weights=0.9"], 'needs loss.class_weights = "none"'),
    ],
)
def test_wrong_settings_are_one_clear_line(overrides: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        recipe(*overrides)
    assert "\n" not in str(caught.value)


def test_the_exact_solution_does_not_sample(tmp_path: Path) -> None:
    linear = ("loss.gamma=0.0", "head.name=pooling", "sampling.balance=classes")
    chosen = load_recipe("default", [*linear, "optimizer.solver=logistic"])
    with pytest.raises(RecipeError, match='must be "instances"; set sampling'):
        make_trainer(chosen, split(), split(), tmp_path)
    assert load_recipe("default", linear).solver == "adamw"
    assert load_recipe("default", linear[:2]).solver == "logistic"


def test_the_ladder_has_a_row_for_each() -> None:
    arms = {arm.name: arm.recipe for arm in ladder(recipe("sampling.balance=classes"))}
    assert arms["cross-entropy"].sampling.balance == "instances"
    assert arms["+ class-balanced sampling"].sampling.balance == "classes"
    assert arms["+ class-balanced sampling"].loss.class_weights == "none"
    arms = {arm.name: arm.recipe for arm in ladder(recipe("loss.class_weights=0.9"))}
    assert arms["+ effective number of clips"].loss.class_weights == 0.9


def test_a_method_that_is_off_changes_no_identity() -> None:
    """Interrupted trainings and studies of an earlier version go on."""
    assert "sampling" not in recipe().identity
    assert recipe("sampling.balance=classes").identity["sampling"] == {"balance": "classes"}
    left_out = set(recipe().model_dump()) - set(recipe().identity)
    methods = {"sampling", "averaging", "curriculum", "label_noise", "distill", "fine_tune", "augmented_views"}
    assert left_out == {*methods, "pretrain"}
