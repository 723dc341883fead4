"""Distillation follows its formula, brings a student nearer to its teacher, and resumes exactly."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from killed_training import interrupt_before, kill_when_written

from tests.conftest import TINY
from training.engine.choose_trainer import make_trainer
from training.engine.epoch_plan import FeatureSplit
from training.engine.losses import focal_loss
from training.engine.trainer import Trainer
from training.experiments.ablation import ladder
from training.experiments.data import load_study_data
from training.methods.distillation.lesson import prepare_lesson
from training.methods.distillation.loss import distillation_loss
from training.methods.distillation.student import student_recipe
from training.pipeline import scan_source, train
from training.recipe import load_recipe, recipe_of_run
from training.recipe_sections import DistillSection
from vdeploy.artifacts.run import Run
from vdeploy.core.errors import RecipeError, RunError, UserError
from vdeploy.evaluate import evaluate_on
from vdeploy.features.memory_mapped import ShardedFeatures
from vdeploy.features.prediction import predict

RANDOM = np.random.default_rng(5)
LABELS = np.arange(48) % 2
SIZES = (
    *("training.epochs=6", "training.batch=8", "head.units=4", "head.dense=4", "training.precision=float32"),
    *("training.patience=100", "head.dropout=0", "loss.label_smoothing=0", "optimizer.learning_rate=0.01"),
)
TEACHER = "distill.teacher=somebody"


def split(seed: int = 0) -> FeatureSplit:
    """Clips whose first feature is the label and whose second one is what the teacher goes by."""
    features = np.random.default_rng(seed).normal(size=(48, 4, 6))
    features[..., 0] += 3 * LABELS[:, None]
    mean = features[..., 1].mean(axis=1)
    violent = 1 / (1 + np.exp(-3 * mean))
    soft = np.stack([1 - violent, violent], axis=1).astype(np.float32)
    return FeatureSplit(features.astype(np.float16), LABELS, None, soft)


def trained(folder: Path, *overrides: str, unlabelled: FeatureSplit | None = None) -> Trainer:
    """Also run by `killed_training`."""
    recipe = load_recipe("default", [*SIZES, TEACHER, *overrides])
    trainer = make_trainer(recipe, split(), split(1), folder, None, unlabelled)
    assert isinstance(trainer, Trainer)
    trainer.fit()
    return trainer


def softened(probabilities: Any, temperature: float) -> Any:
    raised = probabilities ** (1 / temperature)
    return raised / raised.sum(axis=1, keepdims=True)


def of_loss(section: DistillSection, labels: Any, soft: Any, found: Any) -> Any:
    targets = np.concatenate([labels, soft], axis=1).astype(np.float32)
    return distillation_loss(focal_loss((1, 1), 0), section)(targets, found.astype(np.float32)).numpy()


def test_the_loss_is_that_of_the_paper() -> None:
    soft, found = (RANDOM.dirichlet((1, 1), 32) for _ in range(2))
    labels = np.eye(2)[np.arange(32) % 2]
    section = DistillSection(teacher="t", temperature=3, weight=0.7)
    hard = -(labels * np.log(found)).sum(axis=1)
    taught = -(softened(soft, 3) * np.log(softened(found, 3))).sum(axis=1)
    np.testing.assert_allclose(of_loss(section, labels, soft, found), 0.3 * hard + 0.7 * 9 * taught, rtol=1e-4)


def test_clips_without_a_label_are_taught_alone() -> None:
    soft, found = (RANDOM.dirichlet((1, 1), 8) for _ in range(2))
    section = DistillSection(teacher="t", temperature=1, weight=0.6)
    taught = -(soft * np.log(found)).sum(axis=1)
    np.testing.assert_allclose(of_loss(section, np.zeros((8, 2)), soft, found), 0.6 * taught, rtol=1e-4)
    assert np.isfinite(of_loss(section, np.eye(2)[:1], np.array([[0.0, 1.0]]), np.array([[1.0, 0.0]]))).all()


@pytest.mark.slow
def test_without_weight_it_is_a_plain_training(tmp_path: Path) -> None:
    plain = trained(tmp_path / "plain", 'distill.teacher=""')
    distilled = trained(tmp_path / "distilled", "distill.weight=0")
    assert [record.loss for record in distilled.history] == [record.loss for record in plain.history]
    for one, other in zip(distilled._loop.weights(), plain._loop.weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_with_all_weight_the_student_comes_nearer_to_the_teacher(tmp_path: Path) -> None:
    longer = ("head.name=pooling", "training.epochs=20", "optimizer.learning_rate=0.06")
    plain = trained(tmp_path / "plain", 'distill.teacher=""', *longer)
    taught = trained(tmp_path / "taught", "distill.weight=1", *longer)
    soft = split(1).soft
    assert soft is not None

    def distance(trainer: Trainer) -> float:
        trainer.model.set_weights(trainer._loop.weights())
        return float(np.abs(predict(trainer.model, split(1).features) - soft).mean())

    assert distance(taught) < 0.6 * distance(plain)


def test_unlabelled_clips_are_learned_from(tmp_path: Path) -> None:
    further = dataclasses.replace(split(2), labelled=np.zeros(48, bool))
    trainer = trained(tmp_path / "with", unlabelled=further)
    assert len(trainer.train_split.labels) == 96
    targets = trainer.train_split.targets
    assert targets.shape == (96, 4)
    np.testing.assert_array_equal(targets[:48, :2], np.eye(2)[LABELS])
    assert not targets[48:, :2].any()
    assert further.soft is not None
    np.testing.assert_array_equal(targets[48:, 2:], further.soft)


def test_features_on_the_disk_are_joined_on_the_disk(tmp_path: Path) -> None:
    parts = []
    for number, clips in enumerate((3, 5)):
        np.save(tmp_path / f"{number}.npy", RANDOM.normal(size=(clips, 2, 4)).astype(np.float16))
        parts.append(ShardedFeatures([tmp_path / f"{number}.npy"]).select(np.arange(clips)[::-1]))
    joined = parts[0].joined(parts[1])
    assert joined.shape == (8, 2, 4)
    np.testing.assert_array_equal(joined[[6, 0, 2]], np.concatenate([parts[0][:], parts[1][:]])[[6, 0, 2]])


@pytest.mark.slow
def test_an_interrupted_distillation_ends_bit_identical(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mixed = ("augment.mixup=0.2", "augment.cutmix=1.0")
    whole = trained(tmp_path / "whole", *mixed)
    interrupt_before(4, monkeypatch, lambda: trained(tmp_path / "part", *mixed))
    resumed = trained(tmp_path / "part", *mixed)
    assert [record.loss for record in resumed.history] == [record.loss for record in whole.history]
    for one, other in zip(resumed._loop.weights(), whole._loop.weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_a_killed_distillation_ends_bit_identical(tmp_path: Path) -> None:
    whole, folder = trained(tmp_path / "whole", "training.epochs=40"), tmp_path / "killed"
    for awaited in ("checkpoints/epoch-*1.npz", "checkpoints/epoch-*2[0-9].npz"):
        kill_when_written(awaited, "test_distillation", folder, "training.epochs=40")
    resumed = trained(folder, "training.epochs=40")
    for one, other in zip(resumed._loop.weights(), whole._loop.weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("features")


@pytest.fixture(scope="module")
def unlabelled(clips_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of the data set, which does not count, another one, and a file that is no video."""
    folder = tmp_path_factory.mktemp("unlabelled")
    known = sorted(clips_dir.rglob("*.mp4"))[0]
    shutil.copy(known, folder / "known.mp4")
    (folder / "new.mp4").write_bytes(known.read_bytes() + b"\0\0\0\x08free")
    (folder / "text.mp4").write_text("no video\n" * 40)
    return folder


@pytest.mark.slow
def test_a_run_and_its_bundle_say_the_same(
    tiny_run: Run, tiny_bundle_dir: Path, clips_dir: Path, store: Path, unlabelled: Path
) -> None:
    lessons = []
    for teacher in (tiny_run.root, tiny_bundle_dir):
        recipe = load_recipe("default", [*TINY, f"distill.teacher={teacher}", f"distill.unlabelled={unlabelled}"])
        dataset = scan_source(clips_dir, recipe)
        lesson = prepare_lesson(recipe, dataset, recipe.make_backbone().find_weights(), store)
        assert lesson
        again = prepare_lesson(recipe, dataset, recipe.make_backbone().find_weights(), store)
        assert again
        assert again.digest == lesson.digest
        lessons.append(lesson)
    one, two = lessons
    assert one.soft.shape == (len(dataset.of("train")), 2)
    np.testing.assert_allclose(one.soft, two.soft, atol=2e-3)
    found = evaluate_on(tiny_run.root, clips_dir, split="train", positive=(), store_root=store).probabilities
    np.testing.assert_allclose(one.soft[:, 1], list(found.values()), atol=1e-5)
    assert one.unlabelled
    assert two.unlabelled
    assert one.unlabelled.soft is not None
    assert len(one.unlabelled.labels) == 1
    assert one.unlabelled.labels[0] == one.unlabelled.soft[0].argmax()
    assert one.digest != two.digest


@pytest.mark.slow
def test_a_student_has_the_splits_of_its_teacher_and_is_an_ordinary_run(
    tiny_run: Run, clips_dir: Path, store: Path, unlabelled: Path, tmp_path: Path
) -> None:
    recipe, source = student_recipe(tiny_run.root, "default", None, unlabelled, [*TINY, "training.seed=7"])
    assert (source, recipe.split_seed) == (clips_dir, tiny_run.info.seed)
    run = train(source, tmp_path / "student", recipe, store_root=store)
    assert (run.root / "clips.csv").read_bytes() == (tiny_run.root / "clips.csv").read_bytes()
    assert recipe_of_run(run.root).distill.teacher == str(tiny_run.root)
    assert recipe.identity != recipe.varied(distill={"temperature": 1}).identity
    assert "distill" not in load_recipe().identity


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["distill.weight=1.5"], r"distill\.weight: .*less than or equal to 1"),
        (["distill.temperature=0"], r"distill\.temperature: .*greater than or equal to 0\.1"),
        (["distill.unlabelled=clips"], "unlabelled clips need a teacher and a weight above 0"),
        (["distill.alpha=1"], r"unknown key distill\.alpha.*known here: teacher"),
    ],
)
def test_wrong_settings_are_one_clear_line(overrides: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        load_recipe("default", overrides)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_teacher_that_is_none_and_clips_that_are_none_are_one_clear_line(
    tiny_run: Run, tiny_bundle_dir: Path, clips_dir: Path, store: Path, tmp_path: Path
) -> None:
    with pytest.raises(RunError, match=r"is no finished run: it holds no run\.json"):
        student_recipe(tmp_path, "default", None, None)
    with pytest.raises(RecipeError, match="is a bundle, which does not say where its clips are"):
        student_recipe(tiny_bundle_dir, "default", None, None)
    with pytest.raises(RecipeError, match=r"distill\.teacher: .* is no finished run"):
        train(clips_dir, tmp_path / "out", load_recipe("default", [*TINY, TEACHER]), store_root=store)
    for folder, message in ((tmp_path, "holds no video"), (clips_dir, "holds no clip that is not in")):
        recipe, source = student_recipe(tiny_run.root, "default", None, folder, TINY)
        with pytest.raises(UserError, match=message):
            train(source, tmp_path / "out", recipe, store_root=store)
    assert not list(tmp_path.glob("out*"))


def test_where_nobody_can_be_asked_it_is_refused(tmp_path: Path, clips_dir: Path, store: Path) -> None:
    recipe = load_recipe("default", [*SIZES, TEACHER])
    with pytest.raises(RecipeError, match="no teacher can be asked here"):
        make_trainer(recipe, dataclasses.replace(split(), soft=None), split(1), tmp_path)
    linear = ["head.name=pooling", "head.dense=0", "loss.gamma=0.0", TEACHER]
    assert load_recipe("default", linear).solver == "adamw"
    with pytest.raises(RecipeError, match=r'distill\.teacher must be ""'):
        make_trainer(load_recipe("default", [*linear, "optimizer.solver=logistic"]), split(), split(1), tmp_path)
    studied = load_recipe("default", [*TINY, TEACHER, "distill.unlabelled=clips"])
    with pytest.raises(RecipeError, match="a study learns from labelled clips alone"):
        load_study_data(clips_dir, studied, store)


def test_the_ladder_has_a_row_for_it(tiny_run: Run, clips_dir: Path, store: Path) -> None:
    recipe = load_recipe("default", [*TINY, f"distill.teacher={tiny_run.root}"])
    arms = {arm.name: arm.recipe for arm in ladder(recipe)}
    assert arms["cross-entropy"].distill.teacher == ""
    assert arms["+ distillation"].distill == recipe.distill
    assert "+ distillation" not in {arm.name for arm in ladder(load_recipe())}
    data = load_study_data(clips_dir, recipe, store)
    assert data.train.soft is not None
    assert data.digest != load_study_data(clips_dir, load_recipe("default", TINY), store).digest
