"""Recipes: complete, validated, and helpful when they are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from training.recipe import Recipe, load_recipe, recipe_names, recipe_toml
from vdeploy.core.errors import RecipeError


def test_the_default_recipe_spells_out_the_built_in_defaults() -> None:
    assert load_recipe("default") == Recipe()


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_of_the_package_is_valid_and_survives_a_round_trip(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    file = tmp_path / "copy.toml"
    file.write_text(recipe_toml(recipe))
    assert load_recipe(str(file)) == recipe


def test_single_keys_can_be_overridden() -> None:
    recipe = load_recipe(
        "default", ["training.epochs=7", "backbone.layer=fc2", "loss.alpha=[0.25, 0.75]", "data.positive=['Kampf']"]
    )
    assert (recipe.training.epochs, recipe.backbone.layer) == (7, "fc2")
    assert (recipe.loss.alpha, recipe.data.positive) == ((0.25, 0.75), ("Kampf",))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["training.epoch=7"], r"unknown key training\.epoch, did you mean 'epochs'"),
        (["trainin.epochs=7"], r"unknown key trainin, did you mean 'training'"),
        (["training.epochs=0"], r"training\.epochs: .*greater than or equal to 1.*got 0"),
        (["training.epochs=many"], r"training\.epochs: .*got 'many'"),
        (["backbone.layer=fc3"], r"backbone\.layer: "),
        (["loss.alpha=[0, 1]"], "alpha must be positive"),
        (["data.split=[0.9, 0.2, 0.1]"], "add up to 1"),
        (["decision.threshold=1.5"], "between 0 and 1"),
        (["decision.threshold=f2"], r"decision\.threshold: .*got 'f2'"),
        (["decision.recall_flor=0.9"], "did you mean 'recall_floor'"),
        (["decision.recall_floor=0"], r"decision\.recall_floor: .*got 0"),
        (["decision.cost_miss=0", "decision.cost_false_alarm=0"], "must not both be 0"),
        (["clip.size=16"], r"clip\.size: "),
        (["epochs=7"], "not of the form section.key=value"),
        (["training"], "not of the form section.key=value"),
    ],
)
def test_a_wrong_key_or_value_is_one_clear_line(overrides: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        load_recipe("default", overrides)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("backbone.name=i3d", "augment.cutmix must be 0: I3D looks at the frames of a clip together, so features"),
        ("backbone.name=two-stream", "augment.cutmix must be 0: two-stream network looks at the frames of a clip"),
        ("clip.region=motion", 'augment.cutmix must be 0: clip.region = "motion" looks at the frames of a clip'),
        ("clip.frames=1", "augment.cutmix must be 0: clip.frames is 1"),
    ],
)
def test_cutmix_is_refused_where_features_cannot_be_cut_like_frames(override: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        load_recipe("default", [override, "augment.cutmix=1.0"])
    assert str(caught.value).startswith("recipe default: augment.cutmix must be 0")
    assert "\n" not in str(caught.value)
    load_recipe("default", [override])


def test_a_method_of_a_later_version_does_not_rename_a_training_without_it() -> None:
    assert set(Recipe().identity["augment"]) == {"mixup", "frame_jitter", "frame_drop"}
    assert Recipe().varied(augment={"cutmix": 0.5}).identity["augment"]["cutmix"] == 0.5
    usual, other = load_recipe("edge"), load_recipe("accurate")
    assert "normalization" not in {*usual.identity["head"], *usual.make_head().stage_settings}
    assert other.identity["head"]["normalization"] == "square_root"
    assert other.make_head().stage_settings["normalization"] == "square_root"


def test_an_unknown_recipe_is_guessed() -> None:
    with pytest.raises(RecipeError, match="did you mean 'default'"):
        load_recipe("defautl")


def test_invalid_toml_is_named(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("[training\nepochs = 3")
    with pytest.raises(RecipeError, match=r"mine\.toml is not valid TOML"):
        load_recipe(str(file))


def test_the_reference_recipe_has_the_reference_systems_settings() -> None:
    recipe = load_recipe("reference")
    assert (recipe.backbone.layer, recipe.training.batch, recipe.training.epochs) == ("fc2", 64, 100)
    assert (recipe.optimizer.learning_rate, recipe.optimizer.warmup_epochs, recipe.optimizer.clip_norm) == (1e-3, 5, 1)
    assert (recipe.loss.alpha, recipe.loss.gamma, recipe.loss.label_smoothing) == ((0.25, 0.75), 2, 0.1)


def test_a_variation_is_validated() -> None:
    recipe = Recipe().varied(training={"epochs": 7}, head={"units": 9})
    assert (recipe.training.epochs, recipe.head.units, recipe.training.batch) == (7, 9, Recipe().training.batch)
    for wrong in ({"epochs": 0}, {"epoch": 1}):
        with pytest.raises(ValidationError):
            Recipe().varied(training=wrong)
