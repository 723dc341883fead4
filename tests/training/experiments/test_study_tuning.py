"""A search finds what is best, goes on after an interruption as if there had been none, and refuses foreign studies."""

from __future__ import annotations

import dataclasses
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from drift import drift_data, drift_split, small_recipe

from training.engine.trainer import FeatureSplit
from training.experiments.data import StudyData
from training.experiments.single_run import Figures
from training.experiments.tuning import SearchResult, objective, search
from training.recipe import Recipe, load_recipe
from vdeploy.core.errors import MissingExtraError, StudyError


def worth(recipe: Recipe, data: StudyData | None = None, folder: Path | None = None) -> Figures:
    """Best at a learning rate of 0.003."""
    distance = abs(math.log10(recipe.optimizer.learning_rate / 0.003))
    return Figures(
        accuracy=0.9,
        accuracy_non_violent=0.9,
        accuracy_violent=0.9,
        roc_auc=1 - distance / 10,
        calibrated_accuracy=0.9,
        calibrated_non_violent=0.9,
        calibrated_violent=0.9,
        log_loss=distance,
        epochs=5,
        best_epoch=3,
        seconds=1.0,
    )


@dataclasses.dataclass
class Interrupted:
    """Is interrupted in the training of one number."""

    at: int
    seen: list[Recipe] = dataclasses.field(default_factory=list)

    def __call__(self, recipe: Recipe, _data: StudyData, _folder: Path) -> Figures:
        self.seen.append(recipe)
        if len(self.seen) == self.at:
            raise KeyboardInterrupt
        return worth(recipe)


def run(folder: Path, trials: int, train: object = worth) -> SearchResult:
    return search(
        drift_data(),
        small_recipe(),
        folder / "s.db",
        folder / "best.toml",
        trials=trials,
        train=train,  # type: ignore[arg-type]
    )


def test_the_best_trial_becomes_a_recipe(tmp_path: Path) -> None:
    result = run(tmp_path, 4)
    assert result.trials == 4
    assert load_recipe(str(tmp_path / "best.toml")) == result.recipe
    assert result.figures == worth(result.recipe)
    assert result.recipe.optimizer.learning_rate == result.parameters["learning_rate"]
    assert result.recipe.training.epochs == small_recipe().training.epochs
    assert {"recipe", "parameters", "figures", "trials"} == set(result.to_dict())


def test_an_interrupted_search_finds_what_one_in_a_single_piece_finds(tmp_path: Path) -> None:
    whole, broken = Interrupted(at=0), Interrupted(at=4)
    expected = run(tmp_path / "a", 6, whole)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "b", 6, broken)
    assert load_recipe(str(tmp_path / "b" / "best.toml"))
    result = run(tmp_path / "b", 6, broken)
    assert broken.seen.pop(3) == broken.seen[3]
    assert broken.seen == whole.seen
    assert result == expected


def test_trials_that_are_there_count(tmp_path: Path) -> None:
    counting = Interrupted(at=0)
    run(tmp_path, 3, counting)
    assert run(tmp_path, 3, counting).trials == 3
    assert len(counting.seen) == 3
    run(tmp_path, 5, counting)
    assert len(counting.seen) == 5


def test_equal_auc_is_decided_by_log_loss_and_by_nothing_else() -> None:
    labels = [0, 0, 0, 1, 1]
    step = 1 / (2 * 2 * 3)
    good, bad = ({"log_loss": 0.1}, {"log_loss": 50.0})
    base = worth(small_recipe())
    value = {
        (auc, loss["log_loss"]): objective(dataclasses.replace(base, roc_auc=auc, **loss), labels)
        for auc in (0.5, 0.5 + step)
        for loss in (good, bad)
    }
    assert sorted(value, key=value.__getitem__) == [(0.5, 50.0), (0.5, 0.1), (0.5 + step, 50.0), (0.5 + step, 0.1)]


def test_a_validation_split_of_one_class_is_refused() -> None:
    with pytest.raises(StudyError, match="one class only"):
        objective(dataclasses.replace(worth(small_recipe()), roc_auc=None), [0, 0])


def test_trials_are_judged_on_the_validation_split_not_on_the_test_split(tmp_path: Path) -> None:
    test = drift_split(6)
    data = dataclasses.replace(drift_data(), judged=FeatureSplit(test.features, test.labels), judged_split="test")
    seen = []

    def train(recipe: Recipe, data: StudyData, folder: Path) -> Figures:
        seen.append(data)
        return worth(recipe)

    search(data, small_recipe(), tmp_path / "s.db", tmp_path / "best.toml", trials=1, train=train)
    np.testing.assert_array_equal(seen[0].judged.features, data.valid.features)


def test_a_study_of_something_else_is_refused(tmp_path: Path) -> None:
    run(tmp_path, 1)
    files = tmp_path / "s.db", tmp_path / "best.toml"
    with pytest.raises(StudyError, match=r"s\.db is a study of other clips; choose another: --study FILE"):
        search(drift_data("others"), small_recipe(), *files, trials=2, train=worth)
    with pytest.raises(StudyError, match="another recipe"):
        search(drift_data(), small_recipe("training.seed=1"), *files, trials=2, train=worth)


def test_a_file_that_is_no_study_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "s.db").write_text("dear diary")
    with pytest.raises(StudyError, match=r"s\.db cannot be used as a study \(it is no SQLite file\)"):
        run(tmp_path, 1)
    assert (tmp_path / "s.db").read_text() == "dear diary"


def test_a_missing_optuna_names_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'vdeploy\[tune\]'"):
        run(tmp_path, 1)


def test_a_recipe_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StudyError, match=r"cannot write .*best\.toml"):
        search(drift_data(), small_recipe(), tmp_path / "s.db", tmp_path / "file" / "best.toml", trials=1, train=worth)
