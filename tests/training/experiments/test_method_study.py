"""A row a method: what it changes in the recipe, and whether a difference is told from noise."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from training.engine.trainer import FeatureSplit
from training.experiments import judged_folds
from training.experiments.cross_validation import CrossValidation, accuracy_difference, auc_difference
from training.experiments.folds import Fold
from training.experiments.method_arms import ADAMW, METHODS, MethodArm, method_arms
from training.experiments.method_study import MethodStudy, holm, study_methods
from training.experiments.results_cache import folds_file
from training.experiments.sign_flip_test import sign_flip_p_value
from training.methods.self_supervised.trunk import MANIFEST
from training.pipeline import scan_source
from training.recipe import Recipe, load_recipe, recipe_names
from training.recipe_methods import stepwise_key
from vdeploy.core.errors import DatasetError, RecipeError, StudyError
from vdeploy.dataset import Dataset


def arms_of(recipe: Recipe) -> dict[str, Recipe]:
    return {arm.name: arm.recipe for arm in method_arms(recipe)[0]}


@pytest.mark.parametrize("name", recipe_names())
def test_every_arm_changes_the_recipe_in_its_own_way(name: str):
    arms, left_out = method_arms(load_recipe(name))
    identities = [json.dumps(arm.recipe.identity) for arm in arms]
    assert len(set(identities)) == len(identities)
    assert {arm.name[2:] for arm in arms if arm.name[0] in "+-"} | set(left_out) == set(METHODS)


def test_a_head_without_a_choice_of_normalisation_has_no_row_for_it():
    assert method_arms(load_recipe("default"))[1]["square roots of features"] == "unknown key head.normalization"
    assert arms_of(load_recipe("accurate"))["- square roots of features"].head.normalization == "layer"


def test_every_section_of_a_method_has_a_row():
    """Distillation needs a teacher, which may have seen the clips, and pre-training needs further footage."""
    base = load_recipe("edge")
    switched_on = {section for method in METHODS.values() for section in method.on}
    switched_off = set(type(base).model_fields) - set(base.identity)
    assert switched_off
    assert switched_off - {"distill", "pretrain"} <= switched_on
    changed = {(section, key) for method in METHODS.values() for section, keys in method.on.items() for key in keys}
    assert {("augment", key) for key in type(base.augment).model_fields} <= changed


def test_what_the_recipe_has_is_left_out_and_what_it_has_not_is_added():
    default = arms_of(load_recipe("default"))
    assert default["- focal loss"].loss.gamma == 0
    assert default["+ mixup"].augment.mixup == 0.2
    assert default["+ cutmix"].augment.cutmix == 1
    both = load_recipe("default", ["loss.gamma=0", "augment.mixup=0.4"])
    assert arms_of(both)["+ focal loss"].loss.gamma == 2
    assert arms_of(both)["- mixup"].augment.mixup == 0
    assert default["- class weights"].loss.alpha == (1, 1)
    assert default["+ class-balanced sampling"].loss.alpha == (1, 1)


def test_each_balance_of_the_classes_is_switched_off_alone():
    drawn = arms_of(load_recipe("default", ["sampling.balance=classes"]))
    assert drawn["- class weights"].sampling.balance == "classes"
    assert drawn["- class-balanced sampling"].sampling.balance == "instances"
    assert drawn["- class-balanced sampling"].loss.alpha == "balanced"
    weighted = arms_of(load_recipe("default", ["loss.class_weights=0.9"]))
    assert weighted["- class weights"].loss.class_weights == 0.9
    assert weighted["- effective number of clips"].loss.class_weights == "none"
    assert weighted["+ class-balanced sampling"].loss.class_weights == "none"
    plain = arms_of(load_recipe("default", ["loss.alpha=[1.0, 1.0]", "sampling.balance=classes"]))
    assert plain["+ class weights"].sampling.balance == "instances"


def test_methods_in_steps_are_compared_with_the_same_solver():
    arms, _ = method_arms(load_recipe("edge"))
    assert [arm.name for arm in arms[:2]] == ["the recipe", ADAMW]
    assert arms[0].recipe.solver == "logistic"
    for arm in arms[1:]:
        if arm.name == "+ fine-tuned blocks":  # in steps, from the exact solution on
            continue
        needs_steps = bool(stepwise_key(arm.recipe.varied(optimizer={"solver": "auto"})))
        assert arm.recipe.solver == ("adamw" if arm.in_steps or arm.name == ADAMW else "logistic")
        assert arm.in_steps or not needs_steps
    assert ADAMW not in arms_of(load_recipe("default"))
    # A linear head without the focal loss is not solved for exactly all at once.
    focal = load_recipe("edge", ["loss.gamma=2"])
    assert arms_of(focal)["- focal loss"].solver == focal.solver == "adamw"


def test_a_method_that_does_not_go_with_the_recipe_has_a_reason():
    arms, left_out = method_arms(load_recipe("edge", ["fine_tune.blocks=1"]))
    assert "- fine-tuned blocks" in {arm.name for arm in arms}
    assert "fine_tune.blocks goes with none of curriculum" in left_out["curriculum"]
    assert "I3D looks at the frames of a clip together" in method_arms(load_recipe("accurate"))[1]["cutmix"]


def test_a_temporal_shift_is_compared_with_the_same_blocks_and_the_same_first_head():
    recipe = load_recipe("edge", ["fine_tune.blocks=3"])
    arms = arms_of(recipe)
    assert arms["+ temporal shift"] == recipe.varied(fine_tune={"temporal_shift": "both"})
    assert arms_of(arms["+ temporal shift"])["- temporal shift"] == recipe
    assert arms_of(recipe.varied(fine_tune={"temporal_shift": "past"}))["- temporal shift"] == recipe
    assert arms["- fine-tuned blocks"] == load_recipe("edge")
    assert "set fine_tune.blocks, too" in method_arms(load_recipe("edge"))[1]["temporal shift"]


def test_quantization_aware_training_is_compared_with_the_same_blocks():
    recipe = load_recipe("edge", ["fine_tune.blocks=3"])
    arms = arms_of(recipe)
    assert arms["+ quantization-aware training"] == recipe.varied(fine_tune={"quantization_aware": True})
    aware = arms_of(arms["+ quantization-aware training"])
    assert aware["- quantization-aware training"] == recipe
    assert aware["- fine-tuned blocks"].fine_tune == arms["- fine-tuned blocks"].fine_tune
    assert "set fine_tune.blocks, too" in method_arms(load_recipe("edge"))[1]["quantization-aware training"]


def test_blocks_are_trained_from_the_exact_solution_on():
    arms, _ = method_arms(load_recipe("edge"), ["fine-tuned blocks"])
    assert [(arm.name, arm.in_steps) for arm in arms] == [("the recipe", False), ("+ fine-tuned blocks", False)]
    assert arms[1].recipe == load_recipe("edge", ["fine_tune.blocks=1"])
    assert arms[1].recipe.optimizer.solver == "auto"


def test_methods_by_name():
    arms, _ = method_arms(load_recipe("edge"), ["class weights"])
    assert [arm.name for arm in arms] == ["the recipe", "- class weights"]
    with pytest.raises(StudyError, match=r"no method 'mixpu', did you mean 'mixup'\?; known: class weights, "):
        method_arms(load_recipe("edge"), ["mixpu"])


def judged(right: np.ndarray) -> CrossValidation:
    """Two clips a source, one of each class; ``right`` says which sources are judged rightly."""
    labels = np.tile([0, 1], len(right))
    groups = np.repeat([f"s{number:02}" for number in range(len(right))], 2)
    is_right = np.repeat(right, 2)
    return CrossValidation(labels, groups, np.where(is_right == (labels == 1), 0.9, 0.1)[None])


def test_a_difference_is_paired_and_tested_over_sources():
    good, bad = np.ones(40, bool), np.arange(40) % 4 > 0
    gain = accuracy_difference(judged(good), judged(bad))
    assert gain.value == 0.25
    # Ten sources gain, thirty change nothing: all of the 1024 signs but two are nearer to 0.
    assert gain.p_value == 2 / 1024
    assert 0 < gain.low < 0.25 < gain.high
    assert accuracy_difference(judged(bad), judged(good)).value == -0.25
    same = accuracy_difference(judged(bad), judged(bad))
    assert (same.value, same.low, same.high, same.p_value) == (0, 0, 0, 1)
    # Two of forty sources: the direction is open.
    assert accuracy_difference(judged(good), judged(np.arange(40) > 1)).p_value > 0.05
    area = auc_difference(judged(good), judged(bad))
    assert area.value == pytest.approx(1 - judged(bad).roc_auc().value)
    with pytest.raises(ValueError, match="different clips"):
        auc_difference(judged(good), judged(good[1:]))


def test_a_difference_of_few_sources_is_no_proof():
    """All of five sources gain, which chance alone gives in one study of sixteen."""
    assert accuracy_difference(judged(np.ones(5, bool)), judged(np.zeros(5, bool))).p_value == 2 / 32


@pytest.mark.parametrize(("sources", "most"), [(6, 0), (20, 4)])
def test_a_study_in_which_nothing_differs_hardly_ever_has_a_star(sources: int, most: int):
    """Holm bounds the share by 0.05: of forty studies of twenty arms, two are expected at most, and six in a thousand
    series have more than four.
    """
    rng = np.random.default_rng(0)
    studies = rng.integers(-2, 3, size=(40, 20, sources)).astype(np.float64)
    stars = [any(holm([sign_flip_p_value(arm) for arm in study], 0.05)) for study in studies]
    assert sum(stars) <= most


def test_signs_are_drawn_where_they_are_many():
    """The exact value of fourteen equal gains, 2 / 2¹⁴, is told from 1 / 10 000 no better than the draws allow."""
    assert sign_flip_p_value(np.ones(14)) == pytest.approx(2 / 2**14, abs=3e-4)
    mixed = np.array([1.0] * 12 + [-1.0] * 4)
    assert sign_flip_p_value(mixed) == pytest.approx(2 * (1 + 16 + 120 + 560 + 1820) / 2**16, abs=0.01)
    assert sign_flip_p_value(mixed) == sign_flip_p_value(-mixed)


def test_holm_rejects_step_by_step():
    """Holm 1979: 0.01 and 0.013 pass 0.05 / 4 and 0.05 / 3, 0.03 fails 0.05 / 2, and stops the rest."""
    assert holm([0.03, 0.01, 0.04, 0.013], 0.05) == [False, True, False, True]
    assert holm([], 0.05) == []


@pytest.fixture
def grouped(clips_dir: Path) -> Dataset:
    """The synthetic clips as ten sources."""
    dataset = scan_source(clips_dir, load_recipe("edge"))
    order = {clip.path: number for number, clip in enumerate(dataset.clips)}
    clips = [dataclasses.replace(clip, group=f"s{order[clip.path] % 10}") for clip in dataset.clips]
    return dataclasses.replace(dataset, clips=tuple(clips))


TINY = ("clip.size=32", "clip.frames=4", "backbone.weights=random", "training.epochs=1")


def study(dataset: Dataset, folder: Path, arms: list[MethodArm], seeds: int = 1) -> MethodStudy:
    return study_methods(arms, dataset, folder / "store", folds_file(folder / "folds.json"), seeds=seeds)


@pytest.mark.slow
def test_finished_folds_are_not_trained_again(grouped: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    arms, _ = method_arms(load_recipe("edge", TINY), ["class weights", "mixup"])
    calls: list[Recipe] = []

    def counted(recipe: Recipe, _clips: FeatureSplit, fold: Fold, _trunk: object) -> tuple[np.ndarray, np.ndarray]:
        """Stands in for a training, which other tests run."""
        calls.append(recipe)
        if len(calls) == 7:
            raise KeyboardInterrupt
        probabilities = np.random.default_rng(fold.judged).random(len(fold.judged)).astype(np.float32)
        return probabilities, probabilities > recipe.augment.mixup

    monkeypatch.setattr(judged_folds, "judge_fold", counted)
    with pytest.raises(KeyboardInterrupt):
        study(grouped, tmp_path, arms)
    first = study(grouped, tmp_path, arms)
    assert len(calls) == 4 * 5 + 1
    for one, other in zip(study(grouped, tmp_path, arms).rows, first.rows, strict=True):
        np.testing.assert_array_equal(one.judged.probabilities, other.judged.probabilities)
        assert (one.gain, one.gain_in_steps, one.auc_gain) == (other.gain, other.gain_in_steps, other.auc_gain)
    assert len(calls) == 21
    values = json.loads(json.dumps(first.to_dict(), allow_nan=False))
    assert [row["name"] for row in values["rows"]] == ["the recipe", ADAMW, "- class weights", "+ mixup"]
    assert [row["gain"] is None for row in values["rows"]] == [True, False, False, False]
    assert [row["gain_in_steps"] is None for row in values["rows"]] == [True, True, True, False]
    assert (values["clips"], values["sources"], values["folds"], values["comparisons"]) == (20, 10, 5, 4)
    assert "4 differences of accuracy, tested together" in first.conditions
    # Other labels are other clips.
    relabelled = [dataclasses.replace(clip, label=1 - clip.label) for clip in grouped.clips]
    study(dataclasses.replace(grouped, clips=tuple(relabelled)), tmp_path, arms[:1])
    assert len(calls) == 26


@pytest.mark.slow
def test_an_arm_that_cannot_be_trained_is_left_out_with_the_reason(
    grouped: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    arms, _ = method_arms(load_recipe("edge", TINY), ["confident learning", "label smoothing"])

    def choosy(recipe: Recipe, _clips: FeatureSplit, fold: Fold, _trunk: object) -> tuple[np.ndarray, np.ndarray]:
        """Stands in for a training, which other tests run."""
        if recipe.label_noise.action == "drop":
            raise DatasetError("labels cannot be judged", "add clips")
        return np.full(len(fold.judged), 0.5, np.float32), np.ones(len(fold.judged), bool)

    monkeypatch.setattr(judged_folds, "judge_fold", choosy)
    found = study(grouped, tmp_path, arms)
    assert [row.arm.name for row in found.rows] == ["the recipe", "+ label smoothing"]
    assert found.to_dict()["left_out"] == {"+ confident learning": "labels cannot be judged; add clips"}
    broken = [dataclasses.replace(arm, recipe=arm.recipe.varied(label_noise={"action": "drop"})) for arm in arms]
    with pytest.raises(DatasetError, match="labels cannot be judged"):
        study(grouped, tmp_path, broken)


@pytest.mark.slow
def test_another_trunk_in_the_same_folder_is_other_work(
    grouped: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    recipe = load_recipe("edge", [*TINY, "head.name=gru", f"pretrain.trunk={tmp_path / 'trunk'}"])
    (tmp_path / "trunk").mkdir()
    calls: list[Recipe] = []

    def counted(recipe: Recipe, _clips: FeatureSplit, fold: Fold, _trunk: object) -> tuple[np.ndarray, np.ndarray]:
        """Stands in for a training, which other tests run."""
        calls.append(recipe)
        return np.full(len(fold.judged), 0.5, np.float32), np.ones(len(fold.judged), bool)

    monkeypatch.setattr(judged_folds, "judge_fold", counted)
    for content, trained in (("one", 5), ("one", 5), ("two", 10)):
        (tmp_path / "trunk" / MANIFEST).write_text(json.dumps({"model": {}, "sha256": content}))
        study(grouped, tmp_path, [MethodArm("the recipe", recipe)])
        assert len(calls) == trained


@pytest.mark.slow
def test_too_few_sources_and_a_teacher_are_refused(grouped: Dataset, tmp_path: Path):
    recipe = load_recipe("edge", TINY)
    few = dataclasses.replace(grouped, clips=tuple(clip for clip in grouped.clips if clip.group < "s3"))
    with pytest.raises(DatasetError, match=r"3 sources in .* are too few"):
        study(few, tmp_path, method_arms(recipe)[0])
    taught = recipe.varied(distill={"teacher": "runs/teacher"}, optimizer={"solver": "adamw"})
    with pytest.raises(RecipeError, match=r'no teacher can be asked here; set distill.teacher = ""'):
        study(grouped, tmp_path, method_arms(taught, ["mixup"])[0])
