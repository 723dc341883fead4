"""Budgets, candidates whose weights cannot be had, and clips drawn by source."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from training.model_choice.candidates import (
    CANDIDATES,
    TIMING_CLIPS,
    TIMING_SECONDS,
    Afforded,
    Budget,
    afford,
    draw_clips,
    find_candidates,
    seconds_a_clip,
    seconds_to_time,
    timing_order,
)
from training.recipe import load_recipe
from vdeploy.core.errors import RecipeError, StudyError, WeightsError
from vdeploy.dataset import Dataset, LabelledClip

TINY = ("backbone.weights=random", "clip.size=32")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("15m", Budget(seconds=900.0)), ("1.5m", Budget(seconds=90.0)), ("300", Budget(clips=300))],
)
def test_a_budget(text: str, expected: Budget):
    assert Budget.parse(text) == expected


@pytest.mark.parametrize("text", ["", "0", "0m", "-3", "1.5", "15h", "1e9m", "nan", "99999999999"])
def test_no_budget(text: str):
    with pytest.raises(StudyError, match="is no budget; give minutes, as in --budget 15m, or clips"):
        Budget.parse(text)


def test_every_candidate_is_another_backbone():
    names = [load_recipe(name).backbone.name for name in CANDIDATES]
    assert len(set(names)) == len(names) == 6


def test_a_model_whose_weights_are_missing_is_left_out(tmp_path: Path):
    missing = tmp_path / "missing.toml"
    missing.write_text(f'[backbone]\nname = "efficientnet-lite0"\nweights = "{tmp_path}/none.pth"\n')
    random = tmp_path / "random.toml"
    random.write_text('[backbone]\nname = "vgg19"\nweights = "random"\n[clip]\nsize = 32\n')
    (found,), left_out = find_candidates([str(missing), str(random), str(random)], ())
    assert found.name == "random"
    assert "none.pth" in left_out["missing"]
    with pytest.raises(WeightsError, match=r"no model can be tried \(.*none\.pth"):
        find_candidates([str(missing)], ())
    with pytest.raises(RecipeError, match="did you mean 'edge'"):
        find_candidates(["edgy"], ())


def test_files_of_one_name_are_told_apart(tmp_path: Path):
    files = [tmp_path / folder / "mine.toml" for folder in "abc"]
    for file in files:
        file.parent.mkdir()
        file.write_text('[backbone]\nname = "vgg19"\nweights = "random"\n[clip]\nsize = 32\n')
    found, _ = find_candidates(map(str, files), ())
    assert [candidate.name for candidate in found] == ["mine", "mine-2", "mine-3"]


@pytest.mark.slow
def test_time_pays_for_clips():
    (candidate,), _ = find_candidates(["edge"], TINY)
    assert afford(Budget(seconds=0.001), [candidate], 1000).clips == 1
    assert afford(Budget(seconds=1000.0), [candidate], 100).clips == 100
    assert afford(Budget(clips=7), [candidate], 1000) == Afforded(7)
    assert afford(Budget(), [candidate], 1000) == Afforded(1000)


@pytest.mark.parametrize(
    ("clips", "may_leave_out", "expected"),
    [(40, True, (40, "")), (400, True, (200, "slow")), (400, False, (50, "")), (100, True, (100, "slow"))],
)
def test_a_model_that_takes_most_of_the_time(
    monkeypatch: pytest.MonkeyPatch, clips: int, may_leave_out: bool, expected: tuple[int, str]
):
    seconds = {"slow": 6.0, "fast": 0.5, "other": 1.5}
    monkeypatch.setattr("training.model_choice.candidates.seconds_a_clip", lambda candidate: seconds[candidate.name])
    candidates = [SimpleNamespace(name=name) for name in seconds]
    afforded = afford(Budget(seconds=1000.0), candidates, clips, may_leave_out=may_leave_out)
    assert afforded == Afforded(*expected, seconds)
    assert afford(Budget(seconds=1000.0), candidates[1:2], 10_000, may_leave_out=True) == Afforded(
        800, "", {"fast": 0.5}
    )


def test_all_views_of_a_clip_are_paid_for(monkeypatch: pytest.MonkeyPatch):
    ticks = SimpleNamespace(monotonic=iter((0.0, 2.0) * 2).__next__)
    monkeypatch.setattr("training.model_choice.candidates.time", ticks)
    (candidate,), _ = find_candidates(["edge"], (*TINY, "clip.views=3", "clip.mirrored=true"))
    assert seconds_a_clip(candidate) == 12.0
    expected = TIMING_SECONDS + TIMING_CLIPS["frame"] * 2.0
    assert seconds_to_time(candidate, 12.0) == expected, "an export looks at one view"


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ({"best": 300.0, "middle": 90.0, "slow": 400.0, "quick": 60.0}, ["quick", "best", "middle", "slow"]),
        ({"best": 60.0, "slow": 400.0, "middle": 90.0}, ["best", "middle", "slow"]),
        ({}, []),
    ],
)
def test_the_soonest_and_the_most_accurate_are_timed_first(seconds: dict[str, float], expected: list[str]):
    assert timing_order(seconds) == expected


def test_whole_sources_of_both_classes_are_drawn():
    clips = tuple(
        LabelledClip(f"{number}.mp4", number // 4 % 2, "train", f"s{number // 4}", f"{number:064x}")
        for number in range(80)
    )
    dataset = Dataset(Path(), clips, ("no", "yes"), given_splits=False)
    sources = np.array([clip.group for clip in clips])
    drawn = draw_clips(dataset, sources, 24)
    assert len(drawn.clips) == 24
    assert sum(clip.label for clip in drawn.clips) == 12
    assert len({clip.group for clip in drawn.clips}) == 6
    assert draw_clips(dataset, sources, 24) == drawn
    assert draw_clips(dataset, sources, 24, seed=1) != drawn
    assert draw_clips(dataset, sources, 80) is dataset
    assert len(draw_clips(dataset, sources, 1).clips) == 4
