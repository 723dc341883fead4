"""A training on augmented views: what is learned from, what is judged, what the report shows, and how it goes on."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from killed_training import interrupt_before

from training.engine.checkpoints import CheckpointFolder
from training.pipeline import extract_source, scan_source, train
from training.recipe import Recipe, load_recipe
from vdeploy.artifacts.run import CLIPS, Run
from vdeploy.dataset import Dataset
from vdeploy.video.views import usual_view

pytestmark = pytest.mark.slow

VIEWS = ("augmented_views.count=2", "augmented_views.low_light=3.0")


@pytest.fixture(scope="module")
def recipe(tiny_overrides: tuple[str, ...]) -> Recipe:
    return load_recipe("default", [*tiny_overrides, *VIEWS, "training.epochs=3"])


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def run(clips_dir: Path, recipe: Recipe, store: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(clips_dir, tmp_path_factory.mktemp("runs") / "whole", recipe, store_root=store)


def weights(run: Run) -> list[np.ndarray]:
    """All weights after the last epoch."""
    last = CheckpointFolder(run.root / "checkpoints").latest()
    assert last is not None
    return last.model


def test_an_interrupted_training_ends_bit_identical(
    run: Run, clips_dir: Path, recipe: Recipe, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    interrupt_before(2, monkeypatch, lambda: train(clips_dir, out, recipe, store_root=store))
    resumed = train(clips_dir, out, recipe, store_root=store)
    for one, other in zip(weights(resumed), weights(run), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_views_change_what_is_learned(
    run: Run, clips_dir: Path, recipe: Recipe, store: Path, tmp_path: Path
) -> None:
    plain = train(clips_dir, tmp_path / "run", recipe.varied(augmented_views={"count": 0}), store_root=store)
    assert any(not np.array_equal(one, other) for one, other in zip(weights(plain), weights(run), strict=True))
    assert "What it learned from" not in (plain.root / "report.html").read_text(encoding="utf-8")


def test_clips_that_are_judged_keep_the_plain_view(clips_dir: Path, recipe: Recipe, store: Path) -> None:
    dataset, found = scan_source(clips_dir, recipe), {}
    for count in (0, 2):
        varied = recipe.varied(augmented_views={"count": count})
        found[count] = extract_source(dataset, varied, varied.make_backbone().find_weights(), store)
    for split in ("valid", "test"):
        np.testing.assert_array_equal(found[2].of(split), found[0].of(split))
    learned = found[2].to_train_on()
    assert learned.shape[1] == 3
    np.testing.assert_array_equal(learned[:, usual_view(3)], found[0].to_train_on())
    assert not np.array_equal(learned[:, 0], learned[:, 2])


def test_the_report_shows_training_clips_in_their_views(run: Run) -> None:
    page = (run.root / "report.html").read_text(encoding="utf-8")
    assert "What it learned from" in page
    shown = re.findall(r'<img src="data:image/jpeg;base64,([^"]+)" alt="([^"]+), (plain|augmented [12])">', page)
    training = {clip.path for clip in Dataset.read_csv(run.root / CLIPS).of("train")}
    assert len(shown) == 4 * 3
    assert [title for _, _, title in shown[:3]] == ["plain", "augmented 1", "augmented 2"]
    assert len({picture for picture, _, _ in shown}) == len(shown)
    assert {path for _, path, _ in shown} <= training
