"""Augmented views: drawn from the clip and the settings alone, alike in all frames of a view."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from training.recipe import load_recipe, recipe_toml
from vdeploy.core.errors import RecipeError
from vdeploy.video.augmented_views import AugmentedViews
from vdeploy.video.pixel_transforms import PIXEL_TRANSFORMS
from vdeploy.video.views import Views

OFF = dict.fromkeys(("flip", "reverse", "frame_rate", "time_shift", *PIXEL_TRANSFORMS), 0.0)
STRENGTHS = {"crop": 0.5, "flip": 1.0, "low_light": 2.0, "color": 0.5, "blur": 3.0, "noise": 20.0, "compression": 1.0}


def only(**transforms: Any) -> AugmentedViews:
    return AugmentedViews(**{"count": 3, **OFF, **transforms})


def scene(frames: int = 4, size: int = 48) -> np.ndarray:
    """The same picture in all frames."""
    return np.random.default_rng(0).integers(40, 216, (1, size, size, 3), dtype=np.uint8).repeat(frames, axis=0)


def counted(decoded: int) -> np.ndarray:
    """Frames that are their own number."""
    return np.arange(decoded, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8)


@pytest.mark.parametrize("name", PIXEL_TRANSFORMS)
def test_a_transform_changes_pixels_the_same_way_in_all_frames_and_again(name: str) -> None:
    views = only(**{name: STRENGTHS[name]})
    view = views.make(scene(), 4, "ab", 0)
    assert (view.dtype, view.shape) == (np.uint8, scene().shape)
    assert not np.array_equal(view, scene())
    if name != "noise":
        np.testing.assert_array_equal(view, view[:1].repeat(4, axis=0))
    np.testing.assert_array_equal(view, views.make(scene(), 4, "ab", 0))
    for other in (views.make(scene(), 4, "cd", 0), views.make(scene(), 4, "ab", 1)):
        assert np.array_equal(view, other) == (name == "flip")
    reseeded = only(**{name: STRENGTHS[name]}, seed=1)
    assert np.array_equal(view, reseeded.make(scene(), 4, "ab", 0)) == (name == "flip")


@pytest.mark.parametrize("name", PIXEL_TRANSFORMS)
@pytest.mark.parametrize("pair", [(0.0, 1.0), (0.9, 0.0)])
def test_a_strength_or_a_probability_of_0_switches_off(name: str, pair: tuple[float, float]) -> None:
    value = 0.0 if name == "flip" else pair
    np.testing.assert_array_equal(only(**{name: value}).make(scene(), 4, "ab", 0), scene())


def test_a_probability_is_the_share_of_the_views_that_are_changed() -> None:
    views = only(low_light=(1.0, 0.3))
    changed = [not np.array_equal(views.make(scene(1, 8), 1, "ab", number), scene(1, 8)) for number in range(1000)]
    assert np.mean(changed) == pytest.approx(0.3, abs=0.05)


def test_no_transform_changes_what_another_one_draws() -> None:
    cropped = only(crop=0.5).make(scene(), 4, "ab", 0)
    both = only(crop=0.5, flip=1.0, low_light=(1.0, 0.0)).make(scene(), 4, "ab", 0)
    np.testing.assert_array_equal(both, cropped[:, :, ::-1])


def test_frames_lie_closer_in_time_by_the_factor() -> None:
    steps = [np.diff(only(frame_rate=1.0).make(counted(80), 16, "ab", number)[:, 0, 0, 0]) for number in range(100)]
    spans = np.array([int(each.sum()) for each in steps])
    assert 37 <= spans.min() < 45
    assert 70 < spans.max() <= 75
    middles = [only(frame_rate=1.0).make(counted(80), 16, "ab", number)[7:9, 0, 0, 0].mean() for number in range(50)]
    np.testing.assert_allclose(middles, 39.5, atol=1)


def test_the_window_moves_by_the_share_and_shows_its_ends_beyond_them() -> None:
    plain = only().make(counted(80), 16, "ab", 0)[:, 0, 0, 0].astype(int)
    np.testing.assert_array_equal(plain, np.arange(16) * 5 + 2)
    moves = np.array(
        [only(time_shift=0.2).make(counted(80), 16, "ab", n)[:, 0, 0, 0].astype(int) - plain for n in range(100)]
    )
    assert -17 <= moves[:, 8].min() < -10
    assert 10 < moves[:, 8].max() <= 16
    for move in moves:
        np.testing.assert_array_equal(plain + move, np.clip(plain + move[8], 0, 79))


def test_time_runs_backwards_only_where_the_recipe_says() -> None:
    assert AugmentedViews().reverse == 0
    backwards = only(reverse=1.0).make(counted(20), 4, "ab", 0)
    np.testing.assert_array_equal(backwards, only().make(counted(20), 4, "ab", 0)[::-1])


@pytest.mark.parametrize(
    "changed",
    [
        {"seed": 1},
        {"flip": 0.4},
        {"crop": 0.2},
        {"crop": (0.3, 0.4)},
        {"low_light": 0.0},
        {"color": 0.2},
        {"blur": 2.0},
        {"noise": 9.0},
        {"compression": 0.7},
        {"frame_rate": 0.4},
        {"time_shift": 0.2},
        {"reverse": 0.5},
    ],
)
def test_every_setting_has_rows_of_its_own_in_the_store(changed: dict[str, Any]) -> None:
    one, other = AugmentedViews(count=2), AugmentedViews(count=2, **changed)
    assert one.digest != other.digest
    assert set(Views(augmented=one).row_names("ab")) & set(Views(augmented=other).row_names("ab")) == {"ab"}
    assert one.digest == AugmentedViews(count=3).digest


def test_a_number_is_a_strength_in_every_view(tmp_path: Path) -> None:
    recipe = load_recipe(
        "edge", ["augmented_views.count=2", "augmented_views.crop=0.2", "augmented_views.blur=[2, 0.5]"]
    )
    assert (recipe.augmented_views.crop, recipe.augmented_views.blur) == ((0.2, 1.0), (2.0, 0.5))
    assert recipe.views.count == 3
    assert recipe.identity["augmented_views"]["count"] == 2
    (tmp_path / "mine.toml").write_text(recipe_toml(recipe))
    assert load_recipe(str(tmp_path / "mine.toml")) == recipe


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("crop=0.95", r"augmented_views\.crop: .*less than or equal to 0\.9, got 0\.95"),
        ("crop=[0.2, 1.5]", r"augmented_views\.crop: .*less than or equal to 1, got 1\.5"),
        ("noise=-3", r"augmented_views\.noise: .*greater than or equal to 0, got -3"),
        ("blur=[1, 0.5, 2]", r"augmented_views\.blur: .*at most 2 items"),
        ("color=much", r"augmented_views\.color: .*got 'much'"),
        ("flip=2", r"augmented_views\.flip: .*got 2"),
        ("count=-1", r"augmented_views\.count: .*got -1"),
        ("colour=0.5", r"unknown key augmented_views\.colour, did you mean 'color'"),
    ],
)
def test_a_bad_setting_is_one_clear_line(setting: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        load_recipe("default", [f"augmented_views.{setting}"])
    assert "\n" not in str(caught.value)
