"""Which trainer a recipe asks for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from training.engine.epoch_plan import FeatureSplit, check_splits
from training.engine.logistic import LogisticTrainer
from training.engine.trainer import Trainer
from training.methods.confident_learning import audit_labels
from training.methods.fine_tuning import blocks_and_head
from training.recipe import Recipe
from vdeploy.core.errors import RecipeError
from vdeploy.models.trunk import Trunk

__all__ = ["AnyTrainer", "make_trainer"]

AnyTrainer = Trainer | LogisticTrainer


def make_trainer(
    recipe: Recipe,
    train: FeatureSplit,
    valid: FeatureSplit,
    folder: Path,
    strategy: Any = None,
    unlabelled: FeatureSplit | None = None,
    trunk: Trunk | None = None,
) -> AnyTrainer:
    """Make the trainer of ``optimizer.solver``.

    Args:
        recipe: Every choice.
        train: The training split.
        valid: The validation split.
        folder: Run folder.
        strategy: As in `training.engine.trainer.Trainer`.
        unlabelled: Further clips to learn from, with what a teacher says of them.
        trunk: What both splits are activations of, where the recipe trains blocks of the backbone; see
            `training.methods.fine_tuning.trunk_of`.

    Returns:
        The trainer; its ``train_split`` lacks the clips that ``label_noise.action`` drops.

    Raises:
        UserError: The data or the recipe do not allow the training.
    """
    if recipe.distill.teacher and train.soft is None:
        raise RecipeError("no teacher can be asked here", 'set distill.teacher = ""')
    if recipe.fine_tune.blocks and trunk is None:
        raise RecipeError("blocks of a backbone cannot be trained here", "set fine_tune.blocks = 0")
    audit = None
    if recipe.label_noise.action != "none":
        check_splits(train, valid)
        audit = audit_labels(recipe, train, folder, strategy)
        train = train.select(audit.kept) if audit.dropped else train
    if unlabelled is not None:
        train = train.joined(unlabelled)
    trainer: AnyTrainer
    if trunk is not None:
        check_splits(train, valid)
        trainer = Trainer(recipe, train, valid, folder, strategy, blocks_and_head(recipe, trunk, train, valid))
    elif recipe.solver == "logistic":
        trainer = LogisticTrainer(recipe, train, valid, folder)
    else:
        trainer = Trainer(recipe, train, valid, folder, strategy)
    trainer.audit = audit
    return trainer
