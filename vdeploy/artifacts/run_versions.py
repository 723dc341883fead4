"""Manifests of runs of version 1, read as if they were of version 2.

Version 1 left the architecture to the recipe beside it: VGG19 in ``[features]`` and an LSTM in ``[model]``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vdeploy.core.toml import tomllib
from vdeploy.models.registry import backbone_of, head_settings
from vdeploy.video.clips import ClipSpec

__all__ = ["upgraded"]


def upgraded(values: Mapping[str, Any], recipe_file: Path) -> dict[str, Any]:
    """Convert a manifest of version 1.0 or 1.1.

    Args:
        values: The manifest, without its schema version.
        recipe_file: The ``recipe.toml`` of the run.

    Returns:
        The values of a manifest of version 2.0.

    Raises:
        OSError: The recipe cannot be read.
        KeyError, TypeError, ValueError: The manifest or the recipe is damaged.
        RecipeError: The recipe holds settings that no model takes.
    """
    recipe = tomllib.loads(recipe_file.read_text(encoding="utf-8"))
    backbone = backbone_of({"name": "vgg19", **recipe["features"]})
    head = head_settings({"name": "lstm", **recipe["model"]})
    spec = ClipSpec(frames=recipe["clip"]["frames"], size=recipe["clip"]["size"])
    kept = {key: value for key, value in values.items() if key not in {"weights_sha256", "classifier_sha256"}}
    return {
        **kept,
        "violent": values["classes"][1],
        "clip": spec.to_dict(),
        "clips_sha256": "",
        "split": recipe["data"]["split"],
        "seed": recipe["training"]["seed"],
        "positive": recipe["data"]["positive"],
        "stages": [
            {
                "id": "extractor",
                "architecture": "vgg19",
                "settings": backbone.settings.model_dump(mode="json"),
                "output": backbone.feature_shape(spec.frames),
                "parameters": None,
                "sha256": values["weights_sha256"],
            },
            {
                "id": "classifier",
                "architecture": "lstm",
                "settings": head.model_dump(mode="json"),
                "output": (2,),
                "parameters": None,
                "sha256": values["classifier_sha256"],
                "file": "classifier.keras",
            },
        ],
    }
