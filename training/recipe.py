"""The recipe: every choice of a training in one validated, readable TOML file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny, ValidationError, model_validator

from training.recipe_assignments import assign
from training.recipe_errors import recipe_error
from training.recipe_methods import identity_of, method_problem, shifted_blocks, stepwise_key
from training.recipe_sections import (
    AugmentSection,
    AveragingSection,
    ClipSection,
    CurriculumSection,
    DataSection,
    DecisionSection,
    DistillSection,
    FineTuneSection,
    LabelNoiseSection,
    LossSection,
    OptimizerSection,
    PretrainSection,
    SamplingSection,
    TrainingSection,
)
from training.recipe_versions import read_sections
from vdeploy.core.errors import RecipeError, RunError
from vdeploy.core.lazy_imports import require
from vdeploy.core.settings import Settings
from vdeploy.core.text import suggestion
from vdeploy.core.toml import tomllib
from vdeploy.models.base import Backbone, BackboneSettings, Head, HeadSettings
from vdeploy.models.registry import COMBINED, ENSEMBLE, backbone_of, backbone_settings, head_of, head_settings
from vdeploy.video.augmented_views import AugmentedViews
from vdeploy.video.clips import ClipSpec
from vdeploy.video.views import Views

__all__ = ["DEFAULT", "Recipe", "load_recipe", "recipe_names", "recipe_of_run", "recipe_toml"]

DEFAULT = "default"


def _backbone(value: Any) -> Any:
    return backbone_settings(value) if isinstance(value, Mapping) else value


def _head(value: Any) -> Any:
    return head_settings(value) if isinstance(value, Mapping) else value


class Recipe(Settings):
    """All sections; every key has a default.

    The sections ``backbone`` and ``head`` are of the class that their ``name`` selects in `vdeploy.models.registry`.
    """

    clip: ClipSection = ClipSection()
    backbone: Annotated[SerializeAsAny[BackboneSettings], BeforeValidator(_backbone)] = Field(
        default_factory=lambda: backbone_settings({})
    )
    head: Annotated[SerializeAsAny[HeadSettings], BeforeValidator(_head)] = Field(
        default_factory=lambda: head_settings({})
    )
    loss: LossSection = LossSection()
    optimizer: OptimizerSection = OptimizerSection()
    training: TrainingSection = TrainingSection()
    augment: AugmentSection = AugmentSection()
    augmented_views: AugmentedViews = AugmentedViews()
    sampling: SamplingSection = SamplingSection()
    averaging: AveragingSection = AveragingSection()
    curriculum: CurriculumSection = CurriculumSection()
    distill: DistillSection = DistillSection()
    pretrain: PretrainSection = PretrainSection()
    fine_tune: FineTuneSection = FineTuneSection()
    label_noise: LabelNoiseSection = LabelNoiseSection()
    decision: DecisionSection = DecisionSection()
    data: DataSection = DataSection()

    @model_validator(mode="after")
    def _classes_are_balanced_once(self) -> Recipe:
        if self.sampling.balance == "classes" and self.loss.class_weights != "none":
            raise ValueError('sampling.balance = "classes" needs loss.class_weights = "none": both balance the classes')
        return self

    @model_validator(mode="after")
    def _can_be_trained(self) -> Recipe:
        if problem := method_problem(self):
            raise ValueError(problem)
        return self

    @property
    def identity(self) -> dict[str, Any]:
        """JSON-ready values that name a training in a folder or in a study; see `identity_of`."""
        return identity_of(self)

    @property
    def clip_spec(self) -> ClipSpec:
        """The clip section as the decoder wants it, for one view."""
        return ClipSpec(frames=self.clip.frames, size=self.clip.size, fit=self.clip.fit)

    @property
    def views(self) -> Views:
        """Views of each training clip."""
        return Views(self.clip.views, self.clip.mirrored, self.augmented_views)

    def make_backbone(self) -> Backbone[Any]:
        """The backbone of the recipe.

        Raises:
            RecipeError: It cannot take the recipe's clips.
        """
        backbone = backbone_of(self.backbone, self.clip.region)
        backbone.check(self.clip_spec)
        return backbone

    def fine_tuned_backbone(self) -> Backbone[Any]:
        """The backbone whose last blocks are trained; it differs from that of `make_backbone` by a temporal shift."""
        if self.fine_tune.temporal_shift == "none":
            return self.make_backbone()
        shift = {"direction": self.fine_tune.temporal_shift, "blocks": shifted_blocks(self)}
        return backbone_of(self.backbone, self.clip.region, shift)

    def make_head(self) -> Head[Any]:
        """The head of the recipe."""
        return head_of(self.head)

    @property
    def split_seed(self) -> int:
        """The seed of splits that are drawn."""
        return self.training.seed if self.data.seed == "auto" else self.data.seed

    @property
    def solver(self) -> Literal["adamw", "logistic"]:
        """How the head is trained: exactly where it is linear and cross-entropy is minimised; or as the recipe says."""
        if self.optimizer.solver != "auto":
            return self.optimizer.solver
        return "adamw" if stepwise_key(self) or not self.make_head().linear else "logistic"

    def varied(self, **sections: Mapping[str, Any]) -> Recipe:
        """This recipe with other values for some keys.

        Args:
            **sections: New values by key, by section. A backbone or a head of another name starts from its defaults.

        Raises:
            pydantic.ValidationError: A key is unknown or a value out of range.

        Example:
            >>> Recipe().varied(training={"epochs": 7}).training.epochs
            7
        """
        values = self.model_dump()
        return Recipe.model_validate(
            {**values, **{name: _merged(values[name], keys) for name, keys in sections.items()}}
        )


def _merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    return {**new} if "name" in new and new["name"] != old.get("name") else {**old, **new}


def recipe_names() -> list[str]:
    """Names of the recipes that come with the package."""
    folder = resources.files("training").joinpath("recipes")
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load_recipe(source: str = DEFAULT, overrides: Iterable[str] = ()) -> Recipe:
    """Reads a recipe and applies single keys on top.

    Args:
        source: Name of a recipe of the package, or a path of a TOML file.
        overrides: Assignments such as ``"training.epochs=20"``; the value is TOML, or else a string.

    Returns:
        The validated recipe.

    Raises:
        RecipeError: Unknown recipe or key (with the nearest known one), or a value out of range.
    """
    names = recipe_names()
    if source in names:
        content = resources.files("training").joinpath("recipes").joinpath(f"{source}.toml").read_bytes()
    elif Path(source).is_file():
        content = Path(source).read_bytes()
    else:
        raise RecipeError(
            f"there is no recipe {source!r}{suggestion(source, names)}",
            f"give a TOML file or one of: {', '.join(names)}",
        )
    try:
        values = tomllib.loads(content.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise RecipeError(
            f"{source} is not valid TOML ({error})", "mend it, or start from a recipe of the package"
        ) from error
    values = read_sections(values, source)
    for assignment in overrides:
        assign(values, assignment)
    recipe = _validate(values, source)
    for part, name, words in (("backbone", COMBINED, "a combined one"), ("head", ENSEMBLE, "an ensemble")):
        if getattr(recipe, part).name == name:
            raise RecipeError(
                f"recipe {source}: the {part} is {words}, which is not trained itself",
                f"name the {part} of its members; vdeploy ensemble and --seeds put runs together",
            )
    return recipe


def recipe_of_run(root: Path) -> Recipe:
    """Reads the recipe that a run was trained with, of this version or of an older one.

    Raises:
        RunError: The run holds no recipe, or a damaged one.
    """
    file = root / "recipe.toml"
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
        return _validate(read_sections(values, str(file), announce=False), str(file))
    except (OSError, ValueError, RecipeError, RecursionError) as error:
        raise RunError(f"{root} is damaged ({error})", "train again") from error


def recipe_toml(recipe: Recipe) -> str:
    """The recipe as TOML with all keys, as `load_recipe` reads it."""
    tomli_w = require("tomli_w", extra="train", purpose="writing a recipe")
    text: str = tomli_w.dumps(recipe.model_dump(mode="json"))
    return text


def _validate(values: Mapping[str, Any], source: str) -> Recipe:
    try:
        models = {
            name: validate(values[name])
            for name, validate in (("backbone", backbone_settings), ("head", head_settings))
            if isinstance(values.get(name), Mapping)
        }
        return Recipe.model_validate({**values, **models})
    except RecipeError as error:
        raise RecipeError(f"recipe {source}: {error.message}", error.hint) from error
    except ValidationError as error:
        raise recipe_error(error, source, Recipe) from error
