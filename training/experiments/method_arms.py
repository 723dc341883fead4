"""One arm a method: the recipe without a method that it uses, or with one that it does not use."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Any

from pydantic import ValidationError

from training.recipe import Recipe
from training.recipe_errors import first_message
from training.recipe_methods import NO_FINE_TUNING
from vdeploy.core.errors import RecipeError, StudyError
from vdeploy.core.text import suggestion

__all__ = ["ADAMW", "METHODS", "Method", "MethodArm", "method_arms"]

_Sections = dict[str, dict[str, Any]]

ADAMW = "AdamW"
"""The arm that trains a linear head in steps: what methods that need steps are compared with."""

RECIPE = "the recipe"


@dataclasses.dataclass(frozen=True)
class Method:
    """A method of the recipe language.

    Attributes:
        on: Keys that switch it on, with values of its paper or of the package's recipes.
        off: Keys that switch it off.
        in_steps: Whether it is a part of a training in steps, which an exact solution of a linear head is not.
    """

    on: _Sections
    off: _Sections
    in_steps: bool = True


_ALIKE: _Sections = {"loss": {"alpha": (1.0, 1.0), "class_weights": "none"}, "sampling": {"balance": "instances"}}
"""Clips of both classes count alike."""

METHODS: dict[str, Method] = {
    "class weights": Method(
        {**_ALIKE, "loss": {"alpha": "balanced", "class_weights": "none"}},
        {"loss": {"alpha": (1.0, 1.0)}},
        in_steps=False,
    ),
    "effective number of clips": Method(
        {**_ALIKE, "loss": {"alpha": (1.0, 1.0), "class_weights": 0.99}},
        {"loss": {"class_weights": "none"}},
        in_steps=False,
    ),
    "class-balanced sampling": Method(
        {**_ALIKE, "sampling": {"balance": "classes"}}, {"sampling": {"balance": "instances"}}
    ),
    "label smoothing": Method({"loss": {"label_smoothing": 0.05}}, {"loss": {"label_smoothing": 0.0}}, in_steps=False),
    "confident learning": Method(
        {"label_noise": {"action": "drop"}}, {"label_noise": {"action": "none"}}, in_steps=False
    ),
    "mirror images": Method({"clip": {"mirrored": True}}, {"clip": {"mirrored": False}}, in_steps=False),
    "three samplings": Method({"clip": {"views": 3}}, {"clip": {"views": 1}}, in_steps=False),
    "augmented views": Method({"augmented_views": {"count": 2}}, {"augmented_views": {"count": 0}}, in_steps=False),
    "motion region": Method({"clip": {"region": "motion"}}, {"clip": {"region": "full"}}, in_steps=False),
    "square roots of features": Method(
        {"head": {"normalization": "square_root"}}, {"head": {"normalization": "layer"}}, in_steps=False
    ),
    "focal loss": Method({"loss": {"gamma": 2.0}}, {"loss": {"gamma": 0.0}}),
    "mixup": Method({"augment": {"mixup": 0.2}}, {"augment": {"mixup": 0.0}}),
    "cutmix": Method({"augment": {"cutmix": 1.0}}, {"augment": {"cutmix": 0.0}}),
    "frame jitter": Method({"augment": {"frame_jitter": 0.1}}, {"augment": {"frame_jitter": 0.0}}),
    "frame drop": Method({"augment": {"frame_drop": 0.1}}, {"augment": {"frame_drop": 0.0}}),
    "dropout": Method({"head": {"dropout": 0.3}}, {"head": {"dropout": 0.0}}),
    "weight decay": Method({"optimizer": {"weight_decay": 1e-4}}, {"optimizer": {"weight_decay": 0.0}}),
    "warm-up and cosine": Method(
        {"optimizer": {"warmup_epochs": 3.0, "floor": 0.01}}, {"optimizer": {"warmup_epochs": 0.0, "floor": 1.0}}
    ),
    "average of weights": Method({"averaging": {"decay": 0.99}}, {"averaging": {"decay": 0.0}}),
    "curriculum": Method({"curriculum": {"pacing": "exponential"}}, {"curriculum": {"pacing": "none"}}),
    # A linear head begins as the exact solution, so blocks are added to that rather than to a head in steps.
    "fine-tuned blocks": Method({"fine_tune": {"blocks": 1}}, {"fine_tune": NO_FINE_TUNING}, in_steps=False),
    "temporal shift": Method({"fine_tune": {"temporal_shift": "both"}}, {"fine_tune": {"temporal_shift": "none"}}),
    "quantization-aware training": Method(
        {"fine_tune": {"quantization_aware": True}}, {"fine_tune": {"quantization_aware": False}}
    ),
}
"""Every method of the recipe language that needs nothing but labelled clips, by name."""


@dataclasses.dataclass(frozen=True)
class MethodArm:
    """A recipe that is compared.

    Attributes:
        name: ``"+ METHOD"``, ``"- METHOD"``, or one of `RECIPE` and `ADAMW`.
        recipe: Every choice.
        in_steps: Whether it is compared with the arm `ADAMW` as well, where there is one.
    """

    name: str
    recipe: Recipe
    in_steps: bool = False


def method_arms(recipe: Recipe, names: Collection[str] = ()) -> tuple[list[MethodArm], dict[str, str]]:
    """The recipe, and an arm for each method.

    Where the recipe's linear head is solved for exactly, methods of a training in steps are added to the same head
    trained by AdamW, which is an arm as well.

    Args:
        recipe: The base of the comparison.
        names: Methods of `METHODS`; all of them by default.

    Returns:
        The arms, and why a method has none, by name.

    Raises:
        StudyError: A name is unknown.
    """
    for name in names:
        if name not in METHODS:
            raise StudyError(f"there is no method {name!r}{suggestion(name, METHODS)}", f"known: {', '.join(METHODS)}")
    in_steps = {"optimizer": {"solver": "adamw"}}
    stepped = recipe if recipe.fine_tune.blocks else recipe.varied(**in_steps)
    chosen = {name: method for name, method in METHODS.items() if not names or name in names}
    arms, left_out = [MethodArm(RECIPE, recipe)], {}
    if recipe.solver == "logistic" and any(method.in_steps for method in chosen.values()):
        arms.append(MethodArm(ADAMW, stepped))
    for name, method in chosen.items():
        base = stepped if method.in_steps else recipe
        try:
            without = base.varied(**method.off)
            sign, changed = ("-", without) if without != base else ("+", base.varied(**method.on))
        except ValidationError as error:
            left_out[name] = first_message(error)
        except RecipeError as error:
            left_out[name] = error.message
        else:
            if method.in_steps and changed.solver == "logistic":
                changed = changed.varied(**in_steps)
            arms.append(MethodArm(f"{sign} {name}", changed, method.in_steps))
    return arms, left_out
