"""Options of the scripts that train recipes in cross-validation."""

from __future__ import annotations

import argparse
from pathlib import Path

from training.recipe import Recipe, load_recipe
from vdeploy.core.files import cache_dir

__all__ = ["add_recipe_options", "named_recipes"]

_RECIPES = ("default", "edge", "i3d", "accurate")


def add_recipe_options(parser: argparse.ArgumentParser) -> None:
    """Adds the clips, which recipes to train, how often, and where features are kept."""
    parser.add_argument("data", type=Path)
    parser.add_argument("--recipe", action="append", metavar="NAME", help=f"may be repeated; {', '.join(_RECIPES)}")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of the recipes")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--store", type=Path, default=cache_dir() / "features")


def named_recipes(options: argparse.Namespace) -> dict[str, Recipe]:
    """The recipes that the options name, or all of the usual ones.

    Raises:
        RecipeError: One cannot be read.
    """
    return {name: load_recipe(name, options.set) for name in options.recipe or _RECIPES}
