"""The recipe: every choice of a training in one validated, readable TOML file."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny, ValidationError, model_validator

from training.recipe_versions import read_assignment, read_sections
from vdeploy.core.errors import RecipeError, RunError
from vdeploy.core.lazy_imports import require
from vdeploy.core.settings import Settings
from vdeploy.models.base import Backbone, BackboneSettings, Head, HeadSettings
from vdeploy.models.registry import backbone_of, backbone_settings, head_of, head_settings
from vdeploy.video.clips import ClipSpec

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["DEFAULT", "DecisionSection", "Recipe", "load_recipe", "recipe_names", "recipe_of_run", "recipe_toml"]

DEFAULT = "default"


class ClipSection(Settings):
    """How a video becomes frames; see `vdeploy.video.clips.ClipSpec` and, for views, `vdeploy.video.temporal_views`."""

    frames: int = Field(16, ge=1, le=1024)
    size: int = Field(224, ge=32, le=1024)
    views: int = Field(1, ge=1, le=15, description="samplings of each training clip; odd")

    @model_validator(mode="after")
    def _views_have_a_middle(self) -> ClipSection:
        if self.views % 2 == 0:
            raise ValueError("views must be odd: the middle one is what a served model sees")
        return self


class LossSection(Settings):
    """What is minimised. Alpha ``"balanced"`` follows the class frequencies of the training split."""

    gamma: float = Field(2.0, ge=0, le=10)
    alpha: Literal["balanced"] | tuple[float, float] = "balanced"
    label_smoothing: float = Field(0.05, ge=0, lt=1)
    class_weights: Literal["balanced", "none"] = "none"

    @model_validator(mode="after")
    def _alpha_is_positive(self) -> LossSection:
        if self.alpha != "balanced" and not all(1e-6 <= value <= 1e6 for value in self.alpha):
            raise ValueError("alpha must be positive for both classes, from 1e-6 to 1e6")
        return self


class OptimizerSection(Settings):
    """AdamW with linear warm-up and cosine decay, stepped per batch."""

    learning_rate: float = Field(1e-3, gt=0, le=1)
    warmup_epochs: float = Field(3, ge=0, le=1e6)
    floor: float = Field(0.01, ge=0, le=1, description="last learning rate as a share of the highest")
    clip_norm: float = Field(1.0, gt=0)
    weight_decay: float = Field(1e-4, ge=0, le=1e3)
    scale_learning_rate: Literal["none", "linear"] = Field(
        "none", description="linear: learning_rate is meant for a batch of 32 and grows with the batch"
    )


class TrainingSection(Settings):
    """How long, in what portions, on what, and when to stop."""

    epochs: int = Field(60, ge=1, le=1_000_000)
    batch: int = Field(32, ge=1, le=1_000_000, description="of all devices together")
    patience: int = Field(20, ge=1, le=1_000_000, description="epochs without a better validation AUC before it stops")
    seed: int = Field(0, ge=0, lt=2**31)
    devices: Literal["auto"] | Annotated[tuple[str, ...], Field(min_length=1)] = "auto"
    precision: Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"] = "auto"
    xla: Literal["auto"] | bool = "auto"
    memory_limit_gb: float = Field(8.0, gt=0, le=1e6, description="features beyond this are streamed from the disk")


class AugmentSection(Settings):
    """Random changes of the features that are trained on; 0 switches each of them off."""

    mixup: float = Field(0.0, ge=0, le=10, description="alpha of the Beta distribution")
    frame_jitter: float = Field(0.0, ge=0, le=1, description="probability that a frame is replaced by a neighbour")
    frame_drop: float = Field(0.0, ge=0, lt=1, description="probability that a frame repeats the one before")


class DataSection(Settings):
    """How clips are split where the data set does not say."""

    split: tuple[float, float, float] = (0.7, 0.15, 0.15)
    positive: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _split_adds_up(self) -> DataSection:
        if min(self.split) < 0 or self.split[0] <= 0 or self.split[1] <= 0 or abs(sum(self.split) - 1) > 1e-6:
            raise ValueError(
                "split must be three shares (train, valid, test) that add up to 1, train and valid above 0"
            )
        return self


class DecisionSection(Settings):
    """From which probability on a clip counts as violent: a number, or a rule for the validation clips.

    The rules are those of `vdeploy.evaluation.thresholds.choose_threshold`: ``"f1"``, the highest F1; ``"recall"``, the
    highest threshold that reaches ``recall_floor``; ``"cost"``, the lowest total cost of false alarms and misses.
    """

    threshold: Literal["f1", "recall", "cost"] | float = 0.5
    recall_floor: float = Field(0.95, gt=0, le=1)
    cost_false_alarm: float = Field(1.0, ge=0, le=1e9)
    cost_miss: float = Field(1.0, ge=0, le=1e9)

    @model_validator(mode="after")
    def _threshold_is_a_probability(self) -> DecisionSection:
        if not isinstance(self.threshold, str) and not 0 < self.threshold < 1:
            raise ValueError("threshold must lie between 0 and 1")
        return self

    @model_validator(mode="after")
    def _something_costs(self) -> DecisionSection:
        if self.cost_false_alarm + self.cost_miss == 0:
            raise ValueError("cost_false_alarm and cost_miss must not both be 0")
        return self

    @property
    def rule(self) -> str:
        """How the threshold is chosen, in words."""
        match self.threshold:
            case "f1":
                return "highest F1 on the validation split"
            case "recall":
                return f"highest that finds {self.recall_floor:.4g} of the violent clips of the validation split"
            case "cost":
                costs = f"a miss costing {self.cost_miss:g} and a false alarm {self.cost_false_alarm:g}"
                return f"lowest cost on the validation split, {costs}"
        return "set in the recipe"


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
    decision: DecisionSection = DecisionSection()
    data: DataSection = DataSection()

    @property
    def clip_spec(self) -> ClipSpec:
        """The clip section as the decoder wants it, for one view."""
        return ClipSpec(frames=self.clip.frames, size=self.clip.size)

    def make_backbone(self) -> Backbone[Any]:
        """The backbone of the recipe.

        Raises:
            RecipeError: It cannot take the recipe's clips.
        """
        backbone = backbone_of(self.backbone)
        backbone.check(self.clip_spec)
        return backbone

    def make_head(self) -> Head[Any]:
        """The head of the recipe."""
        return head_of(self.head)

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
        text = resources.files("training").joinpath("recipes").joinpath(f"{source}.toml").read_text(encoding="utf-8")
    elif Path(source).is_file():
        text = Path(source).read_text(encoding="utf-8")
    else:
        raise RecipeError(
            f"there is no recipe {source!r}{_suggest(source, names)}",
            f"give a TOML file or one of: {', '.join(names)}",
        )
    try:
        values = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise RecipeError(
            f"{source} is not valid TOML ({error})", "mend it, or start from a recipe of the package"
        ) from error
    values = read_sections(values, source)
    for assignment in overrides:
        _assign(values, assignment)
    return _validate(values, source)


def recipe_of_run(root: Path) -> Recipe:
    """Reads the recipe that a run was trained with, of this version or of an older one.

    Raises:
        RunError: The run holds no recipe, or a damaged one.
    """
    file = root / "recipe.toml"
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
        return _validate(read_sections(values, str(file), announce=False), str(file))
    except (OSError, ValueError, RecipeError) as error:
        raise RunError(f"{root} is damaged ({error})", "train again") from error


def recipe_toml(recipe: Recipe) -> str:
    """The recipe as TOML with all keys, as `load_recipe` reads it."""
    tomli_w = require("tomli_w", extra="train", purpose="writing a recipe")
    text: str = tomli_w.dumps(recipe.model_dump(mode="json"))
    return text


def _assign(values: dict[str, Any], assignment: str) -> None:
    key, equals, text = assignment.partition("=")
    section, dot, name = read_assignment(key.strip()).partition(".")
    if not equals or not dot or not name:
        raise RecipeError(
            f"--set {assignment!r} is not of the form section.key=value", "for example --set training.epochs=20"
        )
    try:
        value = tomllib.loads(f"value = {text.strip()}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        value = text.strip()
    target = values.setdefault(section, {})
    if not isinstance(target, dict):
        return
    if name == "name" and section in {"backbone", "head"} and target.get("name") != value:
        target.clear()
    target[name] = value


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
        first = error.errors()[0]
        path = [str(part) for part in first["loc"]]
        key = ".".join(path[:2])
        if first["type"] == "extra_forbidden":
            section = Recipe.model_fields.get(path[0])
            fields = (
                getattr(section.annotation, "model_fields", {}) if section and len(path) > 1 else Recipe.model_fields
            )
            raise RecipeError(
                f"recipe {source}: unknown key {key}{_suggest(path[-1], list(fields))}",
                f"known here: {', '.join(fields)}",
            ) from error
        raise RecipeError(
            f"recipe {source}: {key}: {first['msg']}, got {first['input']!r}", "see training/recipes/default.toml"
        ) from error


def _suggest(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f", did you mean {close[0]!r}?" if close else ""
