"""Each data set is judged by other sources of its own and by the others, and finished trainings are not repeated."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.datasets import Clips, Task, find_sources, judge, main, plan
from training.engine.epoch_plan import FeatureSplit
from training.recipe import load_recipe
from vdeploy.core.errors import DatasetError

TINY_LINEAR = ("head.name=pooling", "loss.gamma=0.0", "loss.label_smoothing=0.0", "clip.frames=4", "clip.size=32")


def test_every_set_is_judged_by_itself_by_each_other_and_by_their_pairs() -> None:
    tasks = plan(["a", "b", "c"], seeds=2)
    assert len(tasks) == len(set(tasks)) == 2 * (3 + 6 + 3)
    assert Task(("a", "b"), "c", 1) in tasks
    assert all(task.inside or task.judged not in task.trained for task in tasks)


def test_other_sets_are_learned_from_whole_and_the_own_one_by_source() -> None:
    """In each set one feature tells the class; which one and in which direction differs."""
    sets, groups = np.repeat(["a", "b"], 40), np.repeat([f"s{number}" for number in range(20)], 4)
    labels = np.tile([0, 1], 40)
    features = np.random.default_rng(0).normal(size=(80, 2, 6))
    features[..., 0] += 3 * (2 * labels - 1)[:, None] * np.where(sets == "a", 1, -1)[:, None]
    clips = Clips(FeatureSplit(features.astype(np.float16), labels, groups), sets, {})
    recipe = load_recipe("edge")
    inside = judge(recipe, clips, Task(("a",), "a", 0), folds=3)
    across = judge(recipe, clips, Task(("a",), "b", 0), folds=3)
    assert np.mean((inside >= 0.5) == labels[:40]) > 0.9
    assert np.mean((across >= 0.5) == labels[40:]) < 0.1


@pytest.mark.slow
def test_finished_trainings_are_not_repeated(
    clips_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").mkdir()
    for name in ("one", "two"):
        (tmp_path / "data" / name).symlink_to(clips_dir)
    overrides = [part for key in (*TINY_LINEAR, "backbone.weights=random") for part in ("--set", key)]
    kept = ["--store", str(tmp_path / "store"), "--finished", str(tmp_path / "finished.json")]
    given = ["datasets", str(tmp_path / "data"), "--recipe", "default", "--seeds", "1", "--folds", "2"]
    monkeypatch.setattr(sys, "argv", [*given, *overrides, *kept, "--json"])
    main()
    first = json.loads(capsys.readouterr().out)["rows"]
    assert [(row["trained"], row["judged"]) for row in first][:2] == [(["one"], "one"), (["one"], "two")]
    monkeypatch.setattr("benchmarks.datasets.judge", None)
    main()
    assert json.loads(capsys.readouterr().out)["rows"] == first


def test_a_folder_with_one_data_set_is_refused(clips_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "one").symlink_to(clips_dir)
    with pytest.raises(DatasetError, match="holds 1 data sets; give a folder of at least two"):
        find_sources(tmp_path)
