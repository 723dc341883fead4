"""The learning rate of each step."""

from __future__ import annotations

from typing import Any

from training.recipe import Recipe
from vdeploy.core.lazy_imports import load_keras

__all__ = ["LINEAR_SCALING_BATCH", "learning_rate_schedule"]

LINEAR_SCALING_BATCH = 32
"""The batch that a learning rate is meant for where it is scaled with the batch."""


def learning_rate_schedule(recipe: Recipe, steps: int) -> Any:
    """Linear warm-up, then cosine decay to a floor (Loshchilov & Hutter 2017, eq. 5 without restarts), per step.

    With ``optimizer.scale_learning_rate = "linear"``, the rate of the recipe is multiplied by the global batch over 32
    (Goyal et al. 2017, sec. 2.1, "Linear Scaling Rule").

    Args:
        recipe: Optimizer and training sections apply.
        steps: Steps of an epoch.

    Returns:
        A Keras schedule: step to learning rate.
    """
    section, training = recipe.optimizer, recipe.training
    rate = section.learning_rate
    if section.scale_learning_rate == "linear":
        rate *= training.batch / LINEAR_SCALING_BATCH
    warmup = round(section.warmup_epochs * steps)
    return load_keras().optimizers.schedules.CosineDecay(
        initial_learning_rate=rate / (warmup + 1) if warmup else rate,
        decay_steps=max(training.epochs * steps - warmup, 1),
        alpha=section.floor,
        warmup_target=rate if warmup else None,
        warmup_steps=warmup,
    )
