"""Which trainer a recipe asks for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from training.engine.epoch_plan import FeatureSplit
from training.engine.logistic import LogisticTrainer
from training.engine.trainer import Trainer
from training.recipe import Recipe

__all__ = ["AnyTrainer", "make_trainer"]

AnyTrainer = Trainer | LogisticTrainer


def make_trainer(
    recipe: Recipe, train: FeatureSplit, valid: FeatureSplit, folder: Path, strategy: Any = None
) -> AnyTrainer:
    """Make the trainer of ``optimizer.solver``.

    Args:
        recipe: Every choice.
        train: The training split.
        valid: The validation split.
        folder: Run folder.
        strategy: As in `training.engine.trainer.Trainer`.

    Raises:
        UserError: The data or the recipe do not allow the training.
    """
    if recipe.solver == "logistic":
        return LogisticTrainer(recipe, train, valid, folder)
    return Trainer(recipe, train, valid, folder, strategy)
