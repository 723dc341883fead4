"""A curriculum draws the clips with the lowest losses of a teacher, as many as the pacing says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from killed_training import interrupt_before, kill_when_written

import training.engine.trainer
from training.engine.checkpoints import CheckpointFolder
from training.engine.choose_trainer import make_trainer
from training.engine.epoch_plan import EpochPlan, FeatureSplit, plan_epoch
from training.engine.logistic_regression import StandardizedBasis
from training.engine.trainer import Trainer
from training.experiments.ablation import ladder
from training.methods.curriculum import TEACHER, easiest, pace
from training.methods.teacher import label_losses, teacher_probabilities
from training.recipe import Recipe, load_recipe
from training.recipe_sections import CurriculumSection
from vdeploy.core.errors import DatasetError, RecipeError, RunError

SOURCES = np.repeat(np.arange(12), 4)
LABELS = (SOURCES % 3 == 0).astype(np.int64)
"""Sixteen violent clips among 48, of twelve sources."""

PACING = ("curriculum.pacing=exponential", "curriculum.start=0.25", "curriculum.increase=2", "curriculum.step_epochs=2")


def split(seed: int = 0) -> FeatureSplit:
    features = np.random.default_rng(seed).gamma(2, 3, (48, 4, 6)) + 4 * LABELS[:, None, None] * (np.arange(6) < 2)
    return FeatureSplit(features.astype(np.float16), LABELS, np.array([f"s{source}" for source in SOURCES]))


def recipe(*overrides: str) -> Recipe:
    sizes = ("training.epochs=6", "training.batch=8", "head.units=4", "head.dense=4", "training.precision=float32")
    return load_recipe("default", [*sizes, "training.patience=100", *PACING, *overrides])


def trained(folder: Path, *overrides: str) -> Trainer:
    trainer = Trainer(recipe(*overrides), split(), split(1), folder)
    trainer.fit()
    return trainer


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> list[EpochPlan]:
    """The plans of the epochs of the trainings of a test."""
    made: list[EpochPlan] = []

    def record(*arguments: object) -> EpochPlan:
        made.append(plan_epoch(*arguments))  # type: ignore[arg-type]
        return made[-1]

    monkeypatch.setattr(training.engine.trainer, "plan_epoch", record)
    return made


def test_the_pace_is_that_of_the_formula() -> None:
    section = CurriculumSection(pacing="exponential", start=0.04, increase=1.9, step_epochs=3)
    paces = [pace(section, epoch) for epoch in range(1, 31)]
    assert paces == pytest.approx([min(0.04 * 1.9 ** np.floor(step / 3), 1) for step in range(30)])
    assert (paces[0], paces[-1]) == (0.04, 1.0)
    assert pace(CurriculumSection(start=0.1, increase=100, step_epochs=1), 1_000_000) == 1
    assert pace(CurriculumSection(start=1.0), 1) == 1


def test_the_easiest_clips_of_each_class_come_in_the_order_of_their_losses() -> None:
    losses = np.array([0.5, 0.1, 0.9, 0.1, 0.7, 0.3])
    pools = [np.array([0, 1, 2, 3]), np.array([4, 5])]
    assert [pool.tolist() for pool in easiest(pools, losses, 0.5)] == [[1, 3], [5]]
    assert [pool.tolist() for pool in easiest(pools, losses, 1.0)] == [[1, 3, 0, 2], [5, 4]]
    assert [pool.tolist() for pool in easiest(pools, losses, 1e-9)] == [[1], [5]]


@pytest.mark.slow
def test_each_epoch_draws_the_easiest_clips_of_the_teacher(tmp_path: Path, plans: list[EpochPlan]) -> None:
    trained(tmp_path)
    losses = label_losses(LABELS, np.load(tmp_path / TEACHER))
    for plan, share in zip(plans, (0.25, 0.25, 0.5, 0.5, 1, 1), strict=True):
        for label, clips in ((0, 32), (1, 16)):
            members = np.flatnonzero(label == LABELS)
            expected = members[np.argsort(losses[members], kind="stable")][: round(share * clips)]
            drawn = np.intersect1d(plan.rows, members)
            np.testing.assert_array_equal(drawn, np.sort(expected))
        counts = np.bincount(plan.rows.ravel(), minlength=48)
        assert plan.rows.size == 48
        assert set(counts.tolist()) <= {0, round(1 / share)}


@pytest.mark.slow
def test_with_balanced_classes_the_easiest_of_both_are_drawn_equally_often(
    tmp_path: Path, plans: list[EpochPlan]
) -> None:
    trained(tmp_path, "sampling.balance=classes")
    assert [int(LABELS[plan.rows].sum()) for plan in plans] == [24] * 6
    assert len(np.unique(plans[0].rows)) == 12


def test_no_clip_and_no_source_scores_itself(tmp_path: Path) -> None:
    """Features that mark the source alone, and labels without a reason, which a classifier learns by heart."""
    sources = np.repeat(np.arange(24), 4)
    marks = np.random.default_rng(3).normal(size=(24, 40))[sources]
    labels = np.random.default_rng(4).integers(0, 2, 24)[sources]
    clips = FeatureSplit(np.repeat(marks[:, None], 3, axis=1).astype(np.float16), labels, sources.astype(np.str_))
    scores = teacher_probabilities(clips, tmp_path / TEACHER, seed=0, otherwise="", strategy=None)
    by_heart = StandardizedBasis(marks, labels.astype(float), np.ones(len(marks))).fit(0.01).probabilities(marks)
    assert np.mean((by_heart >= 0.5) == labels) == 1
    assert np.mean((scores >= 0.5) == labels) < 0.7


def test_hard_clips_have_high_losses(tmp_path: Path) -> None:
    features = np.random.default_rng(2).normal(size=(48, 4, 6)) + 3 * LABELS[:, None, None] * (np.arange(6) < 2)
    clips = FeatureSplit(features.astype(np.float16), LABELS, split().groups)
    wrong = np.array([0, 17, 33])
    flipped = FeatureSplit(clips.features, np.where(np.isin(np.arange(48), wrong), 1 - LABELS, LABELS), clips.groups)
    scores = teacher_probabilities(flipped, tmp_path / TEACHER, seed=0, otherwise="", strategy=None)
    losses = label_losses(flipped.labels, scores)
    assert set(np.argsort(losses)[-3:].tolist()) == set(wrong.tolist())
    assert label_losses(np.array([1, 0]), np.array([0.25, 0.25])) == pytest.approx(-np.log([0.25, 0.75]))
    assert np.isfinite(label_losses(np.array([1]), np.array([0.0]))).all()


@pytest.mark.slow
def test_an_interrupted_training_ends_bit_identical(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = trained(tmp_path / "whole")
    interrupt_before(4, monkeypatch, lambda: trained(tmp_path / "part"))
    written = (tmp_path / "part" / TEACHER).stat().st_mtime_ns
    resumed = trained(tmp_path / "part")
    assert (tmp_path / "part" / TEACHER).stat().st_mtime_ns == written
    assert [record.loss for record in resumed.history] == [record.loss for record in whole.history]
    for one, other in zip(resumed._loop.weights(), whole._loop.weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_a_killed_training_ends_bit_identical(tmp_path: Path) -> None:
    options = ("training.epochs=60", "averaging.decay=0.9", "sampling.balance=classes", "curriculum.step_epochs=10")
    whole, folder = trained(tmp_path / "whole", *options), tmp_path / "killed"
    for awaited in (TEACHER, "checkpoints/epoch-*1.npz", "checkpoints/epoch-*2[0-9].npz"):
        kill_when_written(awaited, "test_curriculum", folder, *options)
    latest = CheckpointFolder(folder / "checkpoints").latest()
    assert latest is not None
    assert latest.epoch < 60
    resumed = trained(folder, *options)
    assert [record.valid_loss for record in resumed.history] == [record.valid_loss for record in whole.history]
    for one, other in zip(resumed.model.get_weights(), whole.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_without_a_curriculum_there_is_no_teacher(tmp_path: Path, plans: list[EpochPlan]) -> None:
    trained(tmp_path, "curriculum.pacing=none", "training.epochs=1")
    assert not (tmp_path / TEACHER).exists()
    np.testing.assert_array_equal(np.sort(plans[0].rows.ravel()), np.arange(48))


def test_a_teacher_that_cannot_be_used_is_one_clear_line(tmp_path: Path) -> None:
    def scores(folder: Path, clips: FeatureSplit) -> None:
        teacher_probabilities(clips, folder / TEACHER, seed=0, otherwise='curriculum.pacing = "none"', strategy=None)

    (tmp_path / TEACHER).write_bytes(b"damaged")
    with pytest.raises(RunError, match=r"teacher\.npy cannot be read .*; remove it and train again") as caught:
        scores(tmp_path, split())
    assert "\n" not in str(caught.value)
    np.save(tmp_path / TEACHER, np.zeros(47))
    with pytest.raises(RunError, match=r"teacher\.npy belongs to other clips"):
        scores(tmp_path, split())
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"cannot write .*teacher\.npy .*; free some space"):
        scores(tmp_path / "file", split())
    lone = FeatureSplit(split().features, LABELS, np.array(["one"] * 48))
    with pytest.raises(DatasetError, match=r'too small for cross-validation.*or set curriculum\.pacing = "none"'):
        scores(tmp_path / "new", lone)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("curriculum.pacing=linear", r"curriculum\.pacing: .*got 'linear'"),
        ("curriculum.start=0", r"curriculum\.start: .*got 0"),
        ("curriculum.increase=1", r"curriculum\.increase: .*got 1"),
        ("curriculum.step_epochs=0", r"curriculum\.step_epochs: .*got 0"),
        ("curriculum.step=2", r"unknown key curriculum\.step.*known here: pacing"),
    ],
)
def test_wrong_settings_are_one_clear_line(override: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        recipe(override)
    assert "\n" not in str(caught.value)


def test_the_exact_solution_has_no_order(tmp_path: Path) -> None:
    linear = ("loss.gamma=0.0", "head.name=pooling", PACING[0])
    assert load_recipe("default", linear).solver == "adamw"
    with pytest.raises(RecipeError, match=r'curriculum\.pacing must be "none"; set curriculum\.pacing = "none"'):
        make_trainer(load_recipe("default", [*linear, "optimizer.solver=logistic"]), split(), split(1), tmp_path)


def test_the_ladder_has_a_row_for_it() -> None:
    arms = {arm.name: arm.recipe for arm in ladder(recipe())}
    assert arms["cross-entropy"].curriculum.pacing == "none"
    assert arms["+ curriculum"].curriculum == recipe().curriculum
    assert "+ curriculum" not in {arm.name for arm in ladder(load_recipe())}
    assert "curriculum" not in load_recipe().identity
