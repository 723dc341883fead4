"""Which methods a recipe uses, of those that are switched off by default."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

__all__ = ["methods_off", "stepwise_key"]

_METHODS = ("sampling", "averaging", "curriculum", "distill", "label_noise")
"""Sections of methods that are switched off by default, added after version 0.2."""

_STEPWISE = ("augment", "sampling", "averaging", "curriculum", "distill")
"""Sections that the exact solution of a linear head knows nothing of."""


def methods_off(recipe: BaseModel) -> set[str]:
    """Names of the sections of methods that a recipe does not use.

    Args:
        recipe: A `training.recipe.Recipe`.
    """
    return {name for name in _METHODS if getattr(recipe, name) == type(recipe).model_fields[name].default}


def stepwise_key(recipe: Any) -> str:
    """The first key whose value needs a training in steps, such as ``"loss.gamma"``; empty if there is none.

    Args:
        recipe: A `training.recipe.Recipe`.
    """
    if recipe.loss.gamma:
        return "loss.gamma"
    for name in _STEPWISE:
        for key, value in getattr(recipe, name):
            if value != getattr(type(recipe).model_fields[name].default, key):
                return f"{name}.{key}"
    return ""
