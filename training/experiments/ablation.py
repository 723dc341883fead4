"""The cumulative ladder: from plain cross-entropy up to a recipe, one method more on each rung."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from training.experiments.comparison import Arm
from training.recipe import Recipe

__all__ = ["ladder"]

_Sections = dict[str, dict[str, Any]]

_BASELINE: _Sections = {
    "loss": {"gamma": 0.0, "alpha": (1.0, 1.0), "label_smoothing": 0.0, "class_weights": "none"},
    "optimizer": {"warmup_epochs": 0.0, "floor": 1.0, "weight_decay": 0.0},
    "model": {"dropout": 0.0},
}
"""Plain cross-entropy at a constant learning rate, without regularisation."""


def ladder(recipe: Recipe) -> list[Arm]:
    """The rungs below a recipe, lowest first.

    Class weights always get a rung. A method that the recipe does not use gets none. Where the recipe's alpha is
    ``"balanced"``, the class weights have done its work already, so the focal rung leaves alpha at 1 for both classes.
    If the recipe itself differs from the highest rung, it is the last arm.

    Args:
        recipe: What the ladder leads to; whatever no rung is about is the recipe's on every rung.
    """
    current = recipe.varied(**_BASELINE)
    arms = [Arm("cross-entropy", current)]
    for name, sections in _rungs(recipe):
        changed = current.varied(**sections)
        if changed != current:
            current = changed
            arms.append(Arm(f"+ {name}", current))
    if current != recipe:
        arms.append(Arm("the recipe itself", recipe))
    return arms


def _rungs(recipe: Recipe) -> Iterator[tuple[str, _Sections]]:
    loss, optimizer = recipe.loss, recipe.optimizer
    alpha = (1.0, 1.0) if loss.alpha == "balanced" else loss.alpha
    yield "class weights", {"loss": {"class_weights": "balanced"}}
    yield "focal loss", {"loss": {"gamma": loss.gamma, "alpha": alpha}}
    yield "label smoothing", {"loss": {"label_smoothing": loss.label_smoothing}}
    yield "warm-up and cosine", {"optimizer": {"warmup_epochs": optimizer.warmup_epochs, "floor": optimizer.floor}}
    if (dropout := getattr(recipe.head, "dropout", None)) is not None:
        yield "dropout", {"head": {"dropout": dropout}}
    yield "weight decay", {"optimizer": {"weight_decay": optimizer.weight_decay}}
