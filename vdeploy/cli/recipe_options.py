"""The options of commands that train or extract features."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vdeploy.cli.options import DataArgument, PositiveOption, StoreOption, StrictOption, store_root
from vdeploy.models.backbones.vgg19.feature_layers import DIMENSIONS

if TYPE_CHECKING:
    from training.experiments.data import StudyData
    from training.recipe import Recipe
    from vdeploy.dataset import Dataset

__all__ = ["OverridesOption", "RecipeOption", "RecipeOptions"]

RecipeOption = Annotated[str, typer.Option("--recipe", "-r", help="Name of a recipe, or a TOML file.")]
OverridesOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override a key of the recipe: section.key=value. May be repeated."),
]


@dataclasses.dataclass(frozen=True)
class RecipeOptions:
    """Labelled clips, a recipe with its overrides, and the feature store."""

    source: DataArgument
    recipe: RecipeOption = "default"
    layer: Annotated[
        str | None,
        typer.Option(
            "--features",
            help="Layer of VGG19, with its features a frame: "
            + ", ".join(f"{layer} ({size})" for layer, size in DIMENSIONS.items())
            + ". [default: the recipe's]",
            show_default=False,
        ),
    ] = None
    weights: Annotated[
        str | None, typer.Option(help="imagenet, random, or a path. [default: the recipe's]", show_default=False)
    ] = None
    positive: PositiveOption = None
    overrides: OverridesOption = None
    store: StoreOption = None
    strict: StrictOption = False

    @property
    def store_root(self) -> Path:
        """Folder of all feature stores."""
        return store_root(self.store)

    def load_recipe(self) -> Recipe:
        """Reads the recipe and applies the options on top.

        Raises:
            RecipeError: There is no such recipe, a key is unknown, or a value is out of range.
        """
        from training.recipe import load_recipe  # noqa: PLC0415  keeps --help fast

        given = {
            "data.positive": self.positive,
            "backbone.weights": self.weights,
            "backbone.layer": self.layer,
        }
        assignments = [f"{key}={json.dumps(value)}" for key, value in given.items() if value]
        return load_recipe(self.recipe, [*assignments, *(self.overrides or ())])

    def load_study_data(self, recipe: Recipe, dataset: Dataset | None = None) -> StudyData:
        """Reads the features of the clips, extracting those that the store lacks."""
        from training.experiments.data import load_study_data  # noqa: PLC0415  keeps --help fast

        return load_study_data(dataset or self.source, recipe, self.store_root, strict=self.strict)
