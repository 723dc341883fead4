"""Which trainer a recipe asks for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from training.engine.epoch_plan import FeatureSplit, check_splits
from training.engine.logistic import LogisticTrainer
from training.engine.trainer import Trainer
from training.methods.confident_learning import audit_labels
from training.recipe import Recipe
from vdeploy.core.errors import RecipeError

__all__ = ["AnyTrainer", "make_trainer"]

AnyTrainer = Trainer | LogisticTrainer


def make_trainer(
    recipe: Recipe,
    train: FeatureSplit,
    valid: FeatureSplit,
    folder: Path,
    strategy: Any = None,
    unlabelled: FeatureSplit | None = None,
) -> AnyTrainer:
    """Make the trainer of ``optimizer.solver``.

    Args:
        recipe: Every choice.
        train: The training split.
        valid: The validation split.
        folder: Run folder.
        strategy: As in `training.engine.trainer.Trainer`.
        unlabelled: Further clips to learn from, with what a teacher says of them.

    Returns:
        The trainer; its ``train_split`` lacks the clips that ``label_noise.action`` drops.

    Raises:
        UserError: The data or the recipe do not allow the training.
    """
    if recipe.distill.teacher and train.soft is None:
        raise RecipeError("no teacher can be asked here", 'set distill.teacher = ""')
    audit = None
    if recipe.label_noise.action != "none":
        check_splits(train, valid)
        audit = audit_labels(recipe, train, folder, strategy)
        train = train.select(audit.kept) if audit.dropped else train
    if unlabelled is not None:
        train = train.joined(unlabelled)
    trainer: AnyTrainer
    if recipe.solver == "logistic":
        trainer = LogisticTrainer(recipe, train, valid, folder)
    else:
        trainer = Trainer(recipe, train, valid, folder, strategy)
    trainer.audit = audit
    return trainer
