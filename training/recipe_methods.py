"""Which methods a recipe uses, of those that are switched off by default, and what they rule out."""

from __future__ import annotations

from typing import Any

from vdeploy.models.registry import backbone_of

__all__ = ["NO_FINE_TUNING", "cutmix_problem", "identity_of", "method_problem", "shifted_blocks", "stepwise_key"]

_METHODS = ("sampling", "averaging", "curriculum", "distill", "label_noise", "fine_tune", "augmented_views")
"""Sections of methods that are switched off by default, added after version 0.2."""

NO_FINE_TUNING = {"blocks": 0, "temporal_shift": "none", "quantization_aware": False}
"""Keys of the section ``fine_tune`` of a recipe that trains no block of its backbone."""

_STEPWISE = ("augment", "sampling", "averaging", "curriculum", "distill")
"""Sections that the exact solution of a linear head knows nothing of."""


def identity_of(recipe: Any) -> dict[str, Any]:
    """JSON-ready values that name a training in a folder or in a study.

    Methods that are switched off, CutMix among them, a seed of the splits that is not set, and pictures that are
    squeezed are left out, so that work of an earlier version goes on.

    Args:
        recipe: A `training.recipe.Recipe`.
    """
    off = {name for name in _METHODS if getattr(recipe, name) == type(recipe).model_fields[name].default}
    values: dict[str, Any] = recipe.model_dump(
        mode="json", exclude=off if recipe.pretrain.trunk else {*off, "pretrain"}
    )
    if not recipe.augment.cutmix:
        del values["augment"]["cutmix"]
    if recipe.data.seed == "auto":
        del values["data"]["seed"]
    if recipe.clip.fit == "squeeze":
        del values["clip"]["fit"]
    if "fine_tune" not in off:
        for key in ("temporal_shift", "quantization_aware"):
            if getattr(recipe.fine_tune, key) == NO_FINE_TUNING[key]:
                del values["fine_tune"][key]
    if recipe.pretrain.trunk:
        values["pretrain"] = {"trunk": recipe.pretrain.trunk}
    if not recipe.clip.mirrored:
        del values["clip"]["mirrored"]
    return values


def stepwise_key(recipe: Any) -> str:
    """The first key whose value needs a training in steps, such as ``"loss.gamma"``; empty if there is none.

    Args:
        recipe: A `training.recipe.Recipe`.
    """
    if recipe.loss.gamma:
        return "loss.gamma"
    if recipe.fine_tune.blocks:
        return "fine_tune.blocks"
    for name in _STEPWISE:
        for key, value in getattr(recipe, name):
            if value != getattr(type(recipe).model_fields[name].default, key):
                return f"{name}.{key}"
    return ""


def method_problem(recipe: Any) -> str:
    """Why a recipe's methods do not go with its models, clips or each other; empty if they do.

    Args:
        recipe: A `training.recipe.Recipe`.
    """
    return (
        _fine_tuning_problem(recipe)
        or _trunk_problem(recipe)
        or (cutmix_problem(recipe) if recipe.augment.cutmix else "")
    )


def cutmix_problem(recipe: Any) -> str:
    """Why steps in time of a recipe's features cannot be pasted into other clips; empty if they can.

    Args:
        recipe: A `training.recipe.Recipe`.
    """
    backbone, refused = backbone_of(recipe.backbone), "augment.cutmix must be 0"
    if backbone_of(recipe.backbone, recipe.clip.region).granularity == "clip":
        name = backbone.title if backbone.granularity == "clip" else f'clip.region = "{recipe.clip.region}"'
        return f"{refused}: {name} looks at the frames of a clip together, so features cannot be cut like frames"
    return f"{refused}: clip.frames is 1, so a clip has no parts" if recipe.clip.frames == 1 else ""


def _fine_tuning_problem(recipe: Any) -> str:
    """Why the last blocks of a recipe's backbone cannot be trained; empty if they can, or need not be."""
    count = recipe.fine_tune.blocks
    if not count:
        keys = [key for key, off in NO_FINE_TUNING.items() if getattr(recipe.fine_tune, key) != off]
        return f"fine_tune.{keys[0]} is for blocks that are trained: set fine_tune.blocks, too" if keys else ""
    backbone = recipe.make_backbone()
    if not backbone.blocks:
        return f"fine_tune.blocks must be 0: {backbone.title} names no blocks that could be trained"
    if count > len(backbone.blocks):
        return f"fine_tune.blocks must be at most {len(backbone.blocks)}, the blocks of {backbone.title}, not {count}"
    if recipe.optimizer.solver == "logistic":
        return 'optimizer.solver = "logistic" solves for a head alone: set fine_tune.blocks = 0, or another solver'
    if recipe.curriculum.pacing != "none" or recipe.label_noise.action != "none" or recipe.distill.teacher:
        return "fine_tune.blocks goes with none of curriculum, label_noise and distill, which take fixed features"
    return "" if recipe.fine_tune.temporal_shift == "none" else _shift_problem(recipe)


def shifted_blocks(recipe: Any) -> tuple[str, ...]:
    """Blocks of a recipe's backbone that a temporal shift changes: those with a residual branch that are trained.

    Args:
        recipe: A `training.recipe.Recipe`.
    """
    backbone = backbone_of(recipe.backbone)
    return tuple(block for block in backbone.blocks[-recipe.fine_tune.blocks :] if block in backbone.residual_blocks)


def _shift_problem(recipe: Any) -> str:
    backbone, refused = backbone_of(recipe.backbone), 'fine_tune.temporal_shift must be "none"'
    if backbone.granularity == "clip":
        return f"{refused}: {backbone.title} looks at the frames of a clip together already"
    if not backbone.residual_blocks:
        return f"{refused}: {backbone.title} has no blocks with a residual branch, which it shifts"
    if recipe.clip.frames == 1:
        return f"{refused}: clip.frames is 1, so no frame has a neighbour"
    if not shifted_blocks(recipe):
        last = backbone.residual_blocks[-1]
        least = len(backbone.blocks) - backbone.blocks.index(last)
        return f"fine_tune.temporal_shift needs fine_tune.blocks of {least} or more, down to {last} of {backbone.title}"
    return ""


def _trunk_problem(recipe: Any) -> str:
    """Why a recipe's head cannot start from a pre-trained trunk; empty if it can, or need not."""
    if not (recipe.pretrain.trunk and recipe.make_head().linear):
        return ""
    return f'pretrain.trunk must be "": a {recipe.head.name} head without a dense layer has no trunk'
