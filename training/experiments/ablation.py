"""Cumulative ablation: recipes from plain cross-entropy up to a given one, with one more method each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from training.experiments.comparison import Arm
from training.recipe import Recipe
from training.recipe_methods import NO_FINE_TUNING

__all__ = ["ladder"]

_Sections = dict[str, dict[str, Any]]

_BASELINE: _Sections = {
    "loss": {"gamma": 0.0, "alpha": (1.0, 1.0), "label_smoothing": 0.0, "class_weights": "none"},
    "optimizer": {"warmup_epochs": 0.0, "floor": 1.0, "weight_decay": 0.0},
    "sampling": {"balance": "instances"},
    "averaging": {"decay": 0.0},
    "curriculum": {"pacing": "none"},
    "distill": {"teacher": "", "unlabelled": ""},
    "fine_tune": NO_FINE_TUNING,
    "pretrain": {"trunk": ""},
}
"""Plain cross-entropy at a constant learning rate; the head's dropout is set to 0, too, where it has one."""


def ladder(recipe: Recipe) -> list[Arm]:
    """Returns the recipes from the baseline to a given one.

    There is always an arm with class weights, and none for a method that the recipe does not use. Where the recipe's
    alpha is ``"balanced"``, class weights balance the classes already, so the focal loss keeps alpha at 1 for both.
    If the recipe differs from the last of these, it is the last arm.

    Args:
        recipe: The last recipe; settings that no arm changes are taken from it in every arm.
    """
    without_dropout: _Sections = {"head": {"dropout": 0.0}} if hasattr(recipe.head, "dropout") else {}
    baseline = _BASELINE if recipe.label_noise.action != "drop" else {**_BASELINE, "label_noise": {"action": "none"}}
    current = recipe.varied(**baseline, **without_dropout)
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
    if not isinstance(loss.class_weights, str):
        yield "effective number of clips", {"loss": {"class_weights": loss.class_weights}}
    if recipe.sampling.balance == "classes":
        yield "class-balanced sampling", {"loss": {"class_weights": "none"}, "sampling": {"balance": "classes"}}
    yield "suspicious labels dropped", {"label_noise": {"action": recipe.label_noise.action}}
    yield "focal loss", {"loss": {"gamma": loss.gamma, "alpha": alpha}}
    yield "label smoothing", {"loss": {"label_smoothing": loss.label_smoothing}}
    yield "warm-up and cosine", {"optimizer": {"warmup_epochs": optimizer.warmup_epochs, "floor": optimizer.floor}}
    if (dropout := getattr(recipe.head, "dropout", None)) is not None:
        yield "dropout", {"head": {"dropout": dropout}}
    yield "weight decay", {"optimizer": {"weight_decay": optimizer.weight_decay}}
    yield "pre-trained trunk", {"pretrain": {"trunk": recipe.pretrain.trunk}}
    yield "curriculum", {"curriculum": {"pacing": recipe.curriculum.pacing}}
    yield "distillation", {"distill": {"teacher": recipe.distill.teacher, "unlabelled": recipe.distill.unlabelled}}
    yield "average of weights", {"averaging": {"decay": recipe.averaging.decay}}
    yield "fine-tuned blocks", {"fine_tune": {key: getattr(recipe.fine_tune, key) for key in NO_FINE_TUNING}}
