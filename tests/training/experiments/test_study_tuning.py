"""A search finds what is best, prunes what is not, goes on after an interruption, and refuses foreign studies."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from training.engine.trainer import FeatureSplit
from training.experiments import judged_folds
from training.experiments.folds import Fold
from training.experiments.search_space import suggest_recipe
from training.experiments.trial_objective import objective
from training.experiments.tuning import SearchResult, search
from training.methods.self_supervised.trunk import MANIFEST
from training.pipeline import scan_source
from training.recipe import Recipe, load_recipe
from training.recipe_methods import stepwise_key
from vdeploy.core.errors import DatasetError, MissingExtraError, RecipeError, StudyError
from vdeploy.dataset import Dataset

TINY = ("clip.size=32", "clip.frames=4", "backbone.weights=random", "training.epochs=5")


class Trainings:
    """Stands in for trainings: best at little smoothing; may be interrupted, or refuse a seed of the data."""

    def __init__(self, interrupt_at: int = 0, refuse: bool = False) -> None:
        self.at, self.refuse = interrupt_at, refuse
        self.seen: list[Recipe] = []
        self.clips: set[int] = set()

    def __call__(
        self, recipe: Recipe, clips: FeatureSplit, fold: Fold, _trunk: object
    ) -> tuple[np.ndarray, np.ndarray]:
        self.seen.append(recipe)
        self.clips |= {len(clips.labels)}
        if len(self.seen) == self.at:
            raise KeyboardInterrupt
        if self.refuse:
            raise DatasetError("labels cannot be judged", "add clips")
        noise = np.random.default_rng(fold.judged).normal(size=len(fold.judged))
        logits = (2 * clips.labels[fold.judged] - 1) * (1 - 8 * recipe.loss.label_smoothing) + 0.1 * noise
        probabilities = (1 / (1 + np.exp(-logits))).astype(np.float32)
        return probabilities, probabilities > 0.5


@pytest.fixture
def dataset(clips_dir: Path) -> Dataset:
    return scan_source(clips_dir, load_recipe("edge"))


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> Trainings:
    fake = Trainings()
    monkeypatch.setattr(judged_folds, "judge_fold", fake)
    return fake


def run(dataset: Dataset, folder: Path, trials: int, *overrides: str, **options: object) -> SearchResult:
    models = {"edge": load_recipe("edge", [*TINY, *overrides])}
    files = folder / "s.db", folder / "best.toml"
    return search(dataset, models, folder.parent / "store", *files, trials=trials, **options)  # type: ignore[arg-type]


@pytest.mark.slow
def test_the_best_trial_becomes_a_recipe(dataset: Dataset, trainings: Trainings, tmp_path: Path):
    result = run(dataset, tmp_path, 12)
    assert result.trials == 12
    assert load_recipe(str(tmp_path / "best.toml")) == result.recipe
    assert result.recipe.loss.label_smoothing == result.parameters["label_smoothing"] < 0.125
    assert result.recipe.training.epochs == 5
    assert result.figures.roc_auc > 0.9
    assert set(result.to_dict()) == {"recipe", "parameters", "figures", "trials", "pruned", "importance"}
    # What decides has the highest importance, and importances are shares.
    assert next(iter(result.importance)) == "label_smoothing"
    assert sum(result.importance.values()) == pytest.approx(1)
    # The later folds of trials that were pruned are missing.
    assert 0 < result.pruned < 8
    assert 12 + 4 * (12 - result.pruned) <= len(trainings.seen) < 12 * 5


@pytest.mark.slow
def test_the_test_split_plays_no_part(dataset: Dataset, trainings: Trainings, tmp_path: Path):
    assert dataset.of("test")
    run(dataset, tmp_path, 1)
    assert trainings.clips == {len(dataset.clips) - len(dataset.of("test"))}


@pytest.mark.slow
def test_an_interrupted_search_finds_what_one_in_a_single_piece_finds(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(judged_folds, "judge_fold", Trainings())
    expected = run(dataset, tmp_path / "a", 8)
    monkeypatch.setattr(judged_folds, "judge_fold", Trainings(interrupt_at=28))
    with pytest.raises(KeyboardInterrupt):
        run(dataset, tmp_path / "b", 8)
    assert load_recipe(str(tmp_path / "b" / "best.toml"))
    assert run(dataset, tmp_path / "b", 8) == expected
    known = Trainings()
    monkeypatch.setattr(judged_folds, "judge_fold", known)
    assert run(dataset, tmp_path / "b", 8) == expected
    assert not known.seen


def test_trials_that_cannot_be_trained_are_pruned_and_say_why(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(judged_folds, "judge_fold", Trainings(refuse=True))
    with pytest.raises(StudyError, match=r"no trial could be finished \(labels cannot be judged"):
        run(dataset, tmp_path, 2)


def test_what_is_fixed_is_not_searched_and_models_are():
    optuna = pytest.importorskip("optuna")
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
    models = {"edge": load_recipe("edge"), "default": load_recipe("default")}
    fixed = ("head.units", "loss.gamma", "training.batch")
    drawn = [suggest_recipe(study.ask(), models) for _ in range(60)]
    assert {name for name, _, _ in drawn} == set(models)
    assert {recipe.head.name for _, recipe, _ in drawn} == {"pooling", "lstm", "gru", "transformer"}
    assert {recipe.solver for _, recipe, _ in drawn} == {"logistic", "adamw"}
    for name, recipe, parameters in drawn:
        assert (recipe.clip, recipe.backbone) == (models[name].clip, models[name].backbone)
        assert ("learning_rate" in parameters) == (recipe.solver == "adamw")
        assert recipe.make_head().linear == (parameters["head"] == "linear")
    for _, recipe, _ in (suggest_recipe(study.ask(), {"default": models["default"]}, fixed) for _ in range(10)):
        assert recipe.head.name == "lstm"
        assert (recipe.head.units, recipe.loss.gamma, recipe.training.batch) == (128, 2, 32)
    tuned = load_recipe("edge", ["fine_tune.blocks=1"])
    _, recipe, parameters = suggest_recipe(study.ask(), {"edge": tuned})
    assert recipe.fine_tune.blocks == 1
    assert not {"curriculum", "label_noise"} & {*parameters}


def drawn(recipe: str, *overrides: str) -> list[tuple[Recipe, dict[str, object], set[str]]]:
    """Recipes of eighty trials, what they take of the parameters, and what was drawn."""
    optuna = pytest.importorskip("optuna")
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(3))
    models, fixed = {recipe: load_recipe(recipe, overrides)}, [text.partition("=")[0] for text in overrides]
    trials = [study.ask() for _ in range(80)]
    return [(*suggest_recipe(trial, models, fixed)[1:], {*trial.params}) for trial in trials]


def test_parameters_are_those_of_the_recipe():
    for recipe, parameters, names in drawn("edge", "head.name=lstm", "training.batch=32"):
        assert (recipe.head.name, recipe.training.batch) == ("lstm", 32)
        assert not {"head", "batch"} & ({*parameters} | names)
        assert parameters["units"] == recipe.head.units
    for recipe, parameters, names in drawn("edge"):
        assert {"head", "batch", "units"} <= names
        assert parameters["solver"] == recipe.solver
        assert ("units" in parameters) == (recipe.head.name in {"lstm", "gru", "transformer"})
        assert ("dense" in parameters) == (getattr(recipe.head, "dense", 0) > 0)
        assert ("normalization" in parameters) == (recipe.head.name == "pooling")
        if recipe.solver == "logistic":
            assert parameters["balance"] != "sampling"
            assert recipe.loss.alpha == ("balanced" if parameters["balance"] == "weights" else (1, 1))


def test_cutmix_is_searched_where_the_backbone_looks_at_single_frames():
    assert {recipe.augment.cutmix for recipe, _, _ in drawn("edge")} == {0, 0.2, 1}
    assert {recipe.augment.cutmix for recipe, _, _ in drawn("accurate")} == {0}
    assert all("cutmix" not in parameters for _, parameters, _ in drawn("accurate"))


def test_one_key_of_the_balance_fixes_the_balance():
    for recipe, parameters, _ in drawn("edge", "loss.class_weights=0.99"):
        assert (recipe.loss.class_weights, recipe.sampling.balance) == (0.99, "instances")
        assert "balance" not in parameters
    assert all(recipe.sampling.balance == "classes" for recipe, _, _ in drawn("edge", "sampling.balance=classes"))


def test_a_fixed_solver_and_fixed_methods_go_together():
    for recipe, parameters, names in drawn("edge", "optimizer.solver=logistic"):
        assert not stepwise_key(recipe)
        assert recipe.make_head().linear
        assert names == {*parameters} - {"head"} == {"normalization", "balance", "label_noise", "label_smoothing"}
        assert parameters["normalization"] == recipe.head.normalization
    mixed = [recipe for recipe, _, _ in drawn("edge", "augment.mixup=0.2")]
    assert {(recipe.solver, recipe.augment.mixup) for recipe in mixed} == {("adamw", 0.2)}
    assert any(recipe.make_head().linear for recipe in mixed)
    # A method that is fixed to off keeps nobody from the exact solution.
    assert {recipe.solver for recipe, _, _ in drawn("edge", "loss.gamma=0")} == {"logistic", "adamw"}


def test_a_pretrained_head_keeps_its_sizes():
    base = load_recipe("edge", ["head.name=gru", "pretrain.trunk=trunks/gru"])
    optuna = pytest.importorskip("optuna")
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
    for _ in range(10):
        _, recipe, parameters = suggest_recipe(study.ask(), {"edge": base})
        assert recipe.head == base.head.model_copy(update={"dropout": parameters["dropout"]})
        assert not {"head", "units", "dense"} & {*parameters}


def test_a_trial_that_makes_no_recipe_is_pruned_and_the_search_goes_on(
    dataset: Dataset, trainings: Trainings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """As with a model from elsewhere, whose values are not those that are drawn."""
    calls: list[object] = []

    def first_fails(*arguments: object) -> object:
        calls.append(arguments)
        if len(calls) == 1:
            Recipe().varied(training={"epochs": 0})
        return suggest_recipe(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("training.experiments.tuning.suggest_recipe", first_fails)
    result = run(dataset, tmp_path, 2)
    assert (result.trials, result.pruned) == (2, 1)


def test_another_trunk_in_the_same_folder_is_another_recipe(dataset: Dataset, trainings: Trainings, tmp_path: Path):
    pretrained = ("head.name=gru", f"pretrain.trunk={tmp_path}")
    (tmp_path / MANIFEST).write_text(json.dumps({"model": {}, "sha256": "one"}))
    run(dataset, tmp_path, 1, *pretrained)
    (tmp_path / MANIFEST).write_text(json.dumps({"model": {}, "sha256": "two"}))
    with pytest.raises(StudyError, match="another recipe"):
        run(dataset, tmp_path, 2, *pretrained)


def test_equal_auc_is_decided_by_log_loss_and_by_nothing_else():
    labels = np.array([0, 0, 0, 1, 1])
    unsure, sure = np.array([0.4, 0.4, 0.4, 0.6, 0.6]), np.array([0.1, 0.1, 0.1, 0.9, 0.9])
    worse = np.array([0.1, 0.1, 0.91, 0.9, 0.9])
    values = [objective(labels, scores[None])[0] for scores in (worse, unsure, sure)]
    assert values == sorted(values)
    # Of three seeds, one has a better AUC by the least step there is, and the others are much less sure.
    least = np.array([0.1, 0.1, 0.9, 0.9, 0.91])
    timid, wrong = np.array([0.5, 0.5, 0.5, 0.500001, 0.500001]), np.array([0.0, 0.0, 0.0, 1e-9, 1e-9])
    assert objective(labels, np.stack([sure, sure, worse]))[0] < objective(labels, np.stack([wrong, wrong, least]))[0]
    assert objective(labels, np.stack([timid] * 3))[0] < objective(labels, np.stack([sure] * 3))[0]
    partly = np.array([[0.1, np.nan, np.nan, 0.9, np.nan], np.full(5, np.nan)])
    assert objective(labels, partly)[1].roc_auc == 1
    assert math.isnan(objective(labels, np.full((1, 5), np.nan))[0])


def test_a_study_of_something_else_is_refused(dataset: Dataset, trainings: Trainings, tmp_path: Path):
    run(dataset, tmp_path, 1)
    fewer = dataclasses.replace(dataset, clips=dataset.clips[:-1])
    with pytest.raises(StudyError, match=r"s\.db is a study of other clips; choose another: --study FILE"):
        run(fewer, tmp_path, 2)
    with pytest.raises(StudyError, match="another recipe"):
        run(dataset, tmp_path, 2, "training.seed=1")
    with pytest.raises(StudyError, match="another objective"):
        run(dataset, tmp_path, 2, seeds=2)


def test_a_file_that_is_no_study_is_refused_and_kept(dataset: Dataset, tmp_path: Path):
    (tmp_path / "s.db").write_text("dear diary")
    with pytest.raises(StudyError, match=r"s\.db cannot be used as a study \(it is no SQLite file\)"):
        run(dataset, tmp_path, 1)
    assert (tmp_path / "s.db").read_text() == "dear diary"


def test_a_missing_optuna_names_its_extra(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'vdeploy\[tune\]'"):
        run(dataset, tmp_path, 1)


@pytest.mark.slow
def test_a_teacher_and_a_recipe_that_cannot_be_written_are_named(
    dataset: Dataset, trainings: Trainings, tmp_path: Path
):
    with pytest.raises(RecipeError, match=r'what a teacher has seen; set distill.teacher = ""'):
        run(dataset, tmp_path, 1, "distill.teacher=runs/teacher")
    (tmp_path / "file").touch()
    models = {"edge": load_recipe("edge", TINY)}
    with pytest.raises(StudyError, match=r"cannot write .*best\.toml"):
        search(dataset, models, tmp_path, tmp_path / "s.db", tmp_path / "file" / "best.toml", trials=1)
