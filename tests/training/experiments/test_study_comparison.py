"""Comparisons train every arm with every seed, once."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from drift import drift_data, small_recipe

from training.engine.trainer import FeatureSplit
from training.experiments import comparison
from training.experiments.comparison import Arm, compare
from training.experiments.data import StudyData, load_study_data
from training.experiments.imbalance import parse_imbalance
from training.experiments.results_cache import Ledger, study_lock
from training.experiments.single_run import Figures, cross_calibrated, train_once
from training.recipe import Recipe
from vdeploy.core.errors import StudyError


def figures(accuracy: float = 0.9, violent: float | None = 0.8) -> Figures:
    return Figures(
        accuracy=accuracy,
        accuracy_non_violent=1.0,
        accuracy_violent=violent,
        roc_auc=0.95,
        calibrated_accuracy=accuracy + 0.05,
        calibrated_non_violent=1.0,
        calibrated_violent=violent,
        log_loss=0.3,
        epochs=5,
        best_epoch=3,
        seconds=2.0,
    )


class FakeTraining:
    """Stands in for a training; counts how often, and with how many clips."""

    def __init__(self) -> None:
        self.clips: list[int] = []

    def __call__(self, recipe: Recipe, _data: StudyData, _folder: Path, *, train: FeatureSplit) -> Figures:
        self.clips.append(len(train.labels))
        return figures(accuracy=0.5 + recipe.training.seed / 10 + recipe.loss.gamma / 100)


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch) -> FakeTraining:
    fake = FakeTraining()
    monkeypatch.setattr(comparison, "train_once", fake)
    return fake


ARMS = [Arm("plain", small_recipe("loss.gamma=0")), Arm("focal", small_recipe("loss.gamma=2"))]


def test_every_arm_meets_every_seed(training: FakeTraining, tmp_path: Path) -> None:
    result = compare(ARMS, drift_data(), range(3), Ledger(tmp_path / "l.json"))
    assert [row.name for row in result.rows] == ["plain", "focal"]
    assert [row.accuracy.value for row in result.rows] == pytest.approx([0.6, 0.62])
    assert [row.calibrated_accuracy.value for row in result.rows] == pytest.approx([0.65, 0.67])
    assert len(training.clips) == 6
    assert (result.rare_class, result.train_clips, result.judged_clips) == ("violent", (20, 20), (10, 10))
    assert "so all figures are optimistic" in result.conditions
    row = json.loads(json.dumps(result.to_dict(), allow_nan=False))["rows"][0]
    assert row["rare_accuracy"]["value"] == pytest.approx(0.8)
    assert len(row["trainings"]) == 3


def test_what_is_known_is_not_trained_again(training: FakeTraining, tmp_path: Path) -> None:
    file = tmp_path / "l.json"
    first = compare(ARMS, drift_data(), range(2), Ledger(file))
    assert compare(ARMS, drift_data(), range(2), Ledger(file)) == first
    assert len(training.clips) == 4
    compare(ARMS, drift_data(), range(3), Ledger(file))
    assert len(training.clips) == 6


def test_other_clips_another_recipe_or_another_ratio_are_trained(training: FakeTraining, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l.json")
    compare(ARMS[:1], drift_data(), [0], ledger)
    compare(ARMS[:1], drift_data("others"), [0], ledger)
    compare([Arm("plain", small_recipe("loss.gamma=0", "head.units=9"))], drift_data(), [0], ledger)
    compare(ARMS[:1], drift_data(), [0], ledger, imbalance=parse_imbalance("80/20"))
    assert len(training.clips) == len(ledger) == 4


def test_an_imbalance_is_made_and_told(training: FakeTraining, tmp_path: Path) -> None:
    result = compare(
        ARMS[:1], drift_data(), [0, 1], Ledger(tmp_path / "l.json"), imbalance=parse_imbalance("80/20", "non-violent")
    )
    assert training.clips == [25, 25]
    assert (result.rare_class, result.train_clips) == ("non-violent", (5, 20))
    assert result.rows[0].rare_accuracies == [1.0, 1.0]
    assert "80/20 with non-violent clips rare, 5 of 20 kept, drawn anew by each seed" in result.conditions


def test_one_class_among_the_judged_clips_leaves_cells_empty() -> None:
    row = comparison.Row("x", (figures(violent=None),), rare_label=1)
    assert row.rare_accuracy is None


@pytest.mark.parametrize(
    "content",
    ["{", "[]", '{"version": 9}', '{"version": 1, "trainings": {}}', '{"version": 2, "trainings": {"a": {"b": 1}}}'],
)
def test_a_file_that_is_no_ledger_is_named(tmp_path: Path, content: str) -> None:
    file = tmp_path / "l.json"
    file.write_text(content)
    with pytest.raises(StudyError, match=r"l\.json is no file of finished trainings .* --out FILE"):
        Ledger(file)
    assert file.read_text() == content


def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"has a name that is not UTF-8"), study_lock(tmp_path / "\udcff.json"):
        pass
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ledger = Ledger(tmp_path / "file" / "l.json")
    with pytest.raises(StudyError, match=r"cannot write .*l\.json"):
        ledger.figures("x", "x", lambda _: figures())


def test_an_interrupted_training_gets_its_folder_again(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l.json")
    seen = []

    def interrupted(folder: Path) -> Figures:
        folder.mkdir(exist_ok=True)
        seen.append(folder)
        if len(seen) == 1:
            raise KeyboardInterrupt
        return figures()

    with pytest.raises(KeyboardInterrupt):
        ledger.figures("x", "x", interrupted)
    assert Ledger(tmp_path / "l.json").figures("x", "x", interrupted) == figures()
    assert seen[0] == seen[1]
    assert [file.name for file in tmp_path.iterdir()] == ["l.json"]
    seen[0].mkdir()  # as a kill leaves it between the entry and the end
    assert Ledger(tmp_path / "l.json").figures("x", "x", interrupted) == figures()
    assert [file.name for file in tmp_path.iterdir()] == ["l.json"]
    assert len(seen) == 2


@pytest.mark.slow
def test_a_real_training_is_measured_on_the_judged_clips(tmp_path: Path) -> None:
    recipe = small_recipe("training.epochs=20", "optimizer.learning_rate=0.01", "head.dropout=0")
    result = train_once(recipe, drift_data(), tmp_path / "run")
    assert result.accuracy >= 0.9
    assert result.accuracy == pytest.approx(((result.accuracy_non_violent or 0) + (result.accuracy_violent or 0)) / 2)
    assert 1 <= result.best_epoch <= result.epochs == 20
    assert result.seconds > 0


@pytest.mark.slow
def test_study_data_come_from_the_store(clips_dir: Path, tiny_overrides: tuple[str, ...], tmp_path: Path) -> None:
    from training.recipe import load_recipe

    recipe = load_recipe("default", tiny_overrides)
    first, again = (load_study_data(clips_dir, recipe, tmp_path) for _ in range(2))
    other = load_study_data(clips_dir, recipe.varied(data={"split": (0.5, 0.25, 0.25)}), tmp_path)
    assert first.digest == again.digest != other.digest
    assert first.judged_split == "test"
    assert sum(len(split.labels) for split in (first.train, first.valid, first.judged)) == 20
    assert first.train.features.shape[1:] == (4, 512)


@pytest.mark.slow
def test_a_killed_comparison_goes_on_where_it_stopped(tmp_path: Path) -> None:
    code = f"""
        from pathlib import Path
        from drift import drift_data, small_recipe
        from training.experiments.comparison import Arm, compare
        from training.experiments.results_cache import Ledger
        compare([Arm("a", small_recipe())], drift_data(), range(4), Ledger(Path({str(tmp_path / "l.json")!r})))
    """
    paths = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[3])])
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": paths},
        stderr=subprocess.DEVNULL,
    ) as process:
        deadline = time.monotonic() + 200
        while not (tmp_path / "l.json").exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    ledger = Ledger(tmp_path / "l.json")
    assert 1 <= len(ledger) < 4
    arms = [Arm("a", small_recipe())]
    resumed = compare(arms, drift_data(), range(4), ledger)
    whole = compare(arms, drift_data(), range(4), Ledger(tmp_path / "whole.json"))
    for one, other in zip(resumed.rows[0].figures, whole.rows[0].figures, strict=True):
        assert dataclasses.replace(one, seconds=0) == dataclasses.replace(other, seconds=0)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["l.json", "whole.json"]


def test_no_clip_has_a_say_in_its_own_calibration() -> None:
    """Scores that are right but all too high are mended from the other half; changing a clip's label leaves its own."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 40).astype(np.int64)
    logits = rng.normal(np.where(labels == 1, 5.0, 2.0), 0.5)
    scores = (1 / (1 + np.exp(-logits))).astype(np.float32)
    assert np.mean((scores >= 0.5) == labels) == 0.5
    mended = cross_calibrated(labels, scores)
    assert np.mean((mended >= 0.5) == labels) > 0.95
    changed = scores.copy()
    changed[0] = 0.9
    others_of_its_half = np.arange(2, 40, 2)
    np.testing.assert_array_equal(cross_calibrated(labels, changed)[others_of_its_half], mended[others_of_its_half])
