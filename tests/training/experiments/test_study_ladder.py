"""The ladder leads from plain cross-entropy to the recipe, one method more on each rung."""

from __future__ import annotations

import itertools

import pytest

from training.experiments.ablation import ladder
from training.recipe import load_recipe, recipe_names


def test_the_default_recipe_has_every_rung() -> None:
    assert [arm.name for arm in ladder(load_recipe())] == [
        "cross-entropy",
        "+ class weights",
        "+ focal loss",
        "+ label smoothing",
        "+ warm-up and cosine",
        "+ dropout",
        "+ weight decay",
        "the recipe itself",
    ]


def test_the_lowest_rung_is_plain() -> None:
    lowest = ladder(load_recipe())[0].recipe
    assert (lowest.loss.gamma, lowest.loss.alpha, lowest.loss.class_weights) == (0, (1, 1), "none")
    assert (lowest.loss.label_smoothing, lowest.head.dropout, lowest.optimizer.weight_decay) == (0, 0, 0)
    assert (lowest.optimizer.warmup_epochs, lowest.optimizer.floor) == (0, 1)


@pytest.mark.parametrize("name", recipe_names())
def test_each_rung_changes_something_and_the_last_is_the_recipe(name: str) -> None:
    recipe = load_recipe(name)
    arms = ladder(recipe)
    assert arms[-1].recipe == recipe
    assert all(one.recipe != other.recipe for one, other in itertools.pairwise(arms))


def test_a_method_that_the_recipe_does_not_use_has_no_rung() -> None:
    recipe = load_recipe("default", ["loss.label_smoothing=0", "head.dropout=0"])
    names = {arm.name for arm in ladder(recipe)}
    assert not names & {"+ label smoothing", "+ dropout"}


def test_class_weights_and_a_balanced_alpha_do_not_count_twice() -> None:
    focal = next(arm.recipe for arm in ladder(load_recipe()) if arm.name == "+ focal loss")
    assert (focal.loss.gamma, focal.loss.alpha, focal.loss.class_weights) == (2, (1, 1), "balanced")
    own = load_recipe("default", ["loss.alpha=[0.25, 0.75]"])
    focal = next(arm.recipe for arm in ladder(own) if arm.name == "+ focal loss")
    assert focal.loss.alpha == (0.25, 0.75)
