"""The folder of a pre-trained trunk: its weights, and what they were learned from."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from training.recipe import Recipe, recipe_toml
from vdeploy.artifacts.run import toolchain
from vdeploy.core.errors import RecipeError, RunError
from vdeploy.core.files import atomic_write, sha256_of, write_json, write_text
from vdeploy.core.timestamps import now
from vdeploy.models.weights.find import Weights

if TYPE_CHECKING:
    import keras
    import numpy.typing as npt

__all__ = ["MANIFEST", "start_from_trunk", "trunk_identity", "trunk_sha256", "write_trunk"]

MANIFEST = "pretraining.json"
WEIGHTS = "trunk.npz"


def write_trunk(
    folder: Path,
    weights: Sequence[npt.NDArray[np.float32]],
    recipe: Recipe,
    backbone: Weights,
    history: Sequence[float],
    footage: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Write a trunk, its recipe and, last, the manifest.

    Args:
        folder: The folder, which exists.
        weights: The weights of the trunk.
        recipe: What it was trained by.
        backbone: The weights of the backbone.
        history: The mean loss of each epoch.
        footage: What it was trained on, JSON-ready.
    """
    with atomic_write(folder / WEIGHTS) as file:
        np.savez(file, *weights)
    write_text(folder / "recipe.toml", recipe_toml(recipe))
    values = {
        "created": now(),
        "model": _model(recipe, backbone),
        "sha256": sha256_of(folder / WEIGHTS),
        "seed": recipe.training.seed,
        "footage": list(footage),
        "loss": list(history),
        "toolchain": toolchain(),
    }
    write_json(folder / MANIFEST, values)


def start_from_trunk(recipe: Recipe, head: keras.Model) -> None:
    """Put the weights of ``pretrain.trunk`` into a head, whose logits stay as they are; does nothing where it is empty.

    Args:
        recipe: Its backbone, clip and head must be those that the trunk was trained with; dropout may differ.
        head: The head's model.

    Raises:
        RunError: The folder holds no trunk, or is damaged.
        RecipeError: The trunk is that of another model.
    """
    if not recipe.pretrain.trunk:
        return
    folder = Path(recipe.pretrain.trunk)
    known, expected = _manifest(folder), _model(recipe, recipe.make_backbone().find_weights())
    for key in dict.fromkeys((*expected, *known["model"])):
        if (one := known["model"].get(key)) != (two := expected.get(key)):
            raise RecipeError(
                f"the trunk {folder} was trained for another model: {key} is {one} there and {two} here",
                "pre-train with this recipe, or set the same",
            )
    try:
        if sha256_of(folder / WEIGHTS) != known["sha256"]:
            raise ValueError(f"{WEIGHTS} has changed")
        with (folder / WEIGHTS).open("rb") as file, np.load(file, allow_pickle=False) as archive:
            weights = [archive[f"arr_{number}"] for number in range(len(archive.files))]
        head.set_weights([*weights, *head.get_layer("logits").get_weights()])
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise _damaged(folder, error) from error


def trunk_sha256(recipe: Recipe) -> str:
    """SHA-256 of the weights that ``pretrain.trunk`` names; empty if it names none.

    Raises:
        RunError: The folder holds no trunk, or is damaged.
    """
    return str(_manifest(Path(recipe.pretrain.trunk))["sha256"]) if recipe.pretrain.trunk else ""


def trunk_identity(recipe: Recipe) -> list[str]:
    """What results depend on beside a recipe, which names the folder of a trunk alone: the hash of its weights.

    Empty where there is no trunk, so that results of earlier versions hold.

    Raises:
        RunError: The folder holds no trunk, or is damaged.
    """
    return [trunk_sha256(recipe)] if recipe.pretrain.trunk else []


def _model(recipe: Recipe, weights: Weights) -> dict[str, Any]:
    """What the weights of a trunk depend on, by the key of a recipe."""
    backbone = {**recipe.make_backbone().stage_settings, "weights": weights.sha256[:12]}
    head = recipe.make_head().stage_settings
    head.pop("dropout", None)
    clip = {name: getattr(recipe.clip, name) for name in ("frames", "size", "fit", "region")}
    sections = {
        "backbone": {"name": recipe.backbone.name, **backbone},
        "head": {"name": recipe.head.name, **head},
        "clip": clip,
    }
    return {f"{section}.{key}": value for section, values in sections.items() for key, value in values.items()}


def _manifest(folder: Path) -> dict[str, Any]:
    file = folder / MANIFEST
    if not file.is_file():
        raise RunError(f"{folder} is no folder of vdeploy pretrain: it holds no {MANIFEST}", "give another folder")
    try:
        values: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(values["model"], dict):
            raise TypeError("its model is no object")
        values["sha256"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged(folder, error) from error
    return values


def _damaged(folder: Path, error: Exception) -> RunError:
    return RunError(f"{folder} is damaged ({error})", "pre-train again")
