"""Confident learning finds planted wrong labels, says so, and leaves them out where it is asked to."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import training.methods.confident_learning
from training.engine.choose_trainer import make_trainer
from training.engine.epoch_plan import FeatureSplit
from training.engine.logistic import LogisticTrainer
from training.experiments.ablation import ladder
from training.methods.confident_learning import (
    LABEL_NOISE,
    LabelAudit,
    audit_labels,
    class_confidences,
    suspicious_labels,
)
from training.methods.curriculum import TEACHER
from training.recipe import Recipe, load_recipe
from vdeploy.artifacts.run import Run
from vdeploy.cli.app import app
from vdeploy.core.errors import DatasetError, RecipeError
from vdeploy.features.memory_mapped import ShardedFeatures

SOURCES = np.repeat(np.arange(20), 2)
TRUE = SOURCES % 2
WRONG = np.array([5, 18, 30])
LABELS = np.where(np.isin(np.arange(40), WRONG), 1 - TRUE, TRUE)
"""Forty separable clips of twenty sources, three of them labelled wrongly."""


def split(labels: np.ndarray = LABELS) -> FeatureSplit:
    features = np.random.default_rng(0).normal(size=(40, 4, 6)) + 3 * TRUE[:, None, None] * (np.arange(6) < 2)
    return FeatureSplit(features.astype(np.float16), labels, np.array([f"s{source}" for source in SOURCES]))


def recipe(*overrides: str) -> Recipe:
    sizes = ("training.epochs=1", "training.batch=8", "head.units=4", "head.dense=4", "training.precision=float32")
    return load_recipe("default", [*sizes, *overrides])


def linear(*overrides: str) -> Recipe:
    return load_recipe("default", ["loss.gamma=0.0", "loss.label_smoothing=0", "head.name=pooling", *overrides])


def test_the_thresholds_and_the_count_are_those_of_the_paper() -> None:
    """Thresholds: 0.6 is the mean of 0.9, 0.7 and 0.2 for label 0, and 0.6 that of 0.8, 0.7 and 0.3 for label 1."""
    labels = np.array([0, 0, 0, 1, 1, 1])
    violent = np.array([0.1, 0.3, 0.8, 0.8, 0.7, 0.3])
    assert suspicious_labels(labels, violent).tolist() == [2, 5]
    # 0.55 is the likelier class and yet below the mean confidence in it, so it does not count.
    assert suspicious_labels(labels, np.array([0.1, 0.3, 0.55, 0.9, 0.8, 0.7])).tolist() == []
    # Confidently of both classes, where thresholds are low: the likelier one counts.
    low = np.array([0.6, 0.6, 0.45, 0.4, 0.4, 0.55])
    assert suspicious_labels(labels, low).tolist() == [0, 1, 3, 4]


def test_planted_labels_are_found_and_no_others(tmp_path: Path) -> None:
    audit = audit_labels(recipe("label_noise.action=report"), split(), tmp_path, None)
    assert set(audit.suspicious.tolist()) == set(WRONG.tolist())
    confidence = np.where(LABELS == 1, audit.probabilities, 1 - audit.probabilities)
    assert confidence[WRONG].max() < 0.5
    assert np.all(np.diff(confidence[audit.suspicious]) >= 0)
    np.testing.assert_array_equal(audit.kept, np.arange(40))
    clean = audit_labels(recipe("label_noise.action=report"), split(TRUE), tmp_path / "clean", None)
    assert clean.suspicious.size == 0


@pytest.mark.slow
@pytest.mark.parametrize("make", [recipe, linear])
def test_dropped_clips_are_not_learned_from(tmp_path: Path, make: type[Recipe]) -> None:
    kept = np.setdiff1d(np.arange(40), WRONG)
    for action, expected in (("none", np.arange(40)), ("report", np.arange(40)), ("drop", kept)):
        trainer = make_trainer(make(f"label_noise.action={action}"), split(), split(TRUE), tmp_path / action)
        np.testing.assert_array_equal(trainer.train_split.features, split().features[expected])
        np.testing.assert_array_equal(trainer.train_split.labels, LABELS[expected])
        np.testing.assert_array_equal(trainer.train_split.groups, split().groups[expected])
        assert (trainer.audit is None) == (action == "none")
        trainer.fit()
        if isinstance(trainer, LogisticTrainer):
            assert len(trainer.held_out) == len(expected)
    assert make is recipe or isinstance(trainer, LogisticTrainer)


def test_features_on_the_disk_stay_there(tmp_path: Path) -> None:
    np.save(tmp_path / "shard.npy", split().features)
    whole = FeatureSplit(ShardedFeatures([tmp_path / "shard.npy"]), LABELS)
    part = whole.select(WRONG)
    assert isinstance(part.features, ShardedFeatures)
    np.testing.assert_array_equal(part.features[:], split().features[WRONG])
    assert (part.labels.tolist(), part.groups) == (LABELS[WRONG].tolist(), None)


def test_the_probabilities_are_kept_for_a_training_that_goes_on(tmp_path: Path) -> None:
    chosen = recipe("label_noise.action=drop", "curriculum.pacing=exponential")
    first = make_trainer(chosen, split(), split(TRUE), tmp_path)
    written = {name: (tmp_path / name).stat().st_mtime_ns for name in (LABEL_NOISE, TEACHER)}
    again = make_trainer(chosen, split(), split(TRUE), tmp_path)
    assert written == {name: (tmp_path / name).stat().st_mtime_ns for name in written}
    np.testing.assert_array_equal(first.train_split.labels, again.train_split.labels)
    assert np.load(tmp_path / TEACHER).shape == (37,)


def test_labels_that_nothing_explains_are_not_judged(tmp_path: Path) -> None:
    np.save(tmp_path / LABEL_NOISE, np.where(LABELS == 1, 0.1, 0.2))
    for action in ("drop", "report"):
        with pytest.raises(DatasetError, match=r'does not tell the classes.*label_noise\.action = "none"') as caught:
            audit_labels(recipe(f"label_noise.action={action}"), split(), tmp_path, None)
        assert "\n" not in str(caught.value)


def test_clips_of_both_classes_are_always_left() -> None:
    """The bound that is given where labels are judged: a class of suspicious clips alone takes a sum of 1 at most."""
    random, judged = np.random.default_rng(0), 0
    for _ in range(2000):
        labels, scores = np.arange(6) % 2, random.random(6).round(1)
        if class_confidences(labels, scores).sum() > 1:
            judged += 1
            assert len(np.unique(np.delete(labels, suspicious_labels(labels, scores)))) == 2
    assert judged > 500


def test_data_that_cannot_be_judged_are_one_clear_line(tmp_path: Path) -> None:
    chosen = recipe("label_noise.action=report")
    with pytest.raises(DatasetError, match="one class only"):
        make_trainer(chosen, split(LABELS * 0), split(), tmp_path)
    lone = FeatureSplit(split().features, LABELS, np.array(["one"] * 40))
    with pytest.raises(DatasetError, match=r'too small for cross-validation.*set label_noise\.action = "none"'):
        make_trainer(chosen, lone, split(), tmp_path)
    with pytest.raises(RecipeError, match=r"label_noise\.action: .*got 'fix'"):
        recipe("label_noise.action=fix")


def test_the_ladder_has_a_row_for_what_is_dropped() -> None:
    arms = {arm.name: arm.recipe for arm in ladder(recipe("label_noise.action=drop"))}
    assert arms["cross-entropy"].label_noise.action == "none"
    assert arms["+ suspicious labels dropped"].label_noise.action == "drop"
    reporting = ladder(recipe("label_noise.action=report"))
    assert {arm.recipe.label_noise.action for arm in reporting} == {"report"}
    assert "+ suspicious labels dropped" not in {arm.name for arm in reporting}
    assert "label_noise" not in load_recipe().identity


def test_an_audit_keeps_what_it_does_not_drop() -> None:
    for dropped, kept in ((True, [0, 2]), (False, [0, 1, 2])):
        assert LabelAudit(np.array([0.1, 0.9, 0.2]), np.array([1]), dropped=dropped).kept.tolist() == kept


@pytest.mark.slow
@pytest.mark.parametrize("action", ["drop", "report"])
def test_a_run_lists_the_labels_to_check(
    clips_dir: Path, tmp_path: Path, action: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On random weights nothing can be judged, so the probabilities are made: two clips look wrong."""
    planted = {3: 0.875, 12: 0.90625}

    def made(train: FeatureSplit, *_: object, **__: object) -> np.ndarray:
        scores = np.where(train.labels == 1, 0.95, 0.05)
        for clip, wrong in planted.items():
            scores[clip] = 1 - wrong if train.labels[clip] else wrong
        return scores

    monkeypatch.setattr(training.methods.confident_learning, "teacher_probabilities", made)
    sets = ["backbone.weights=random", "clip.size=32", "clip.frames=4", "data.split=[0.8,0.2,0]", "loss.gamma=0.0"]
    options = [f"--set={value}" for value in [*sets, "head.name=pooling", f"label_noise.action={action}"]]
    command = ["train", str(clips_dir), "--out", str(tmp_path / "run"), "--store", str(tmp_path / "store"), *options]
    done = CliRunner().invoke(app, [*command, *(["--json"] if action == "drop" else [])])
    assert done.exit_code == 0, done.output
    with (tmp_path / "run" / "clips.csv").open(encoding="utf-8") as handle:
        clips = [row for row in csv.DictReader(handle) if row["split"] == "train"]
    found = json.loads((tmp_path / "run" / "suspicious_labels.json").read_text(encoding="utf-8"))
    if action == "drop":
        assert json.loads(done.stdout)["suspicious_labels"] == found
    else:
        assert "labels to check: 2 training clips, listed in the report" in done.stdout
    assert [entry["path"] for entry in found] == [clips[12]["path"], clips[3]["path"]]
    for entry, wrong in zip(found, (0.90625, 0.875), strict=True):
        assert entry["probability_violent"] == (1 - wrong if entry["label"] == "violent" else wrong)
    assert {entry["dropped"] for entry in found} == {action == "drop"}
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    section = page[page.index("Labels to check") :].partition("</section>")[0]
    assert all(entry["path"] in section for entry in found)
    assert section.count("data:image/jpeg") == 2
    assert ("left these clips out" in section) == (action == "drop")
    assert f"labelled <bdi>{found[0]['label']}</bdi>" in section


def test_a_run_that_does_not_look_for_wrong_labels_says_nothing_of_them(tiny_run: Run) -> None:
    assert tiny_run.suspicious_labels is None
    assert "Labels to check" not in (tiny_run.root / "report.html").read_text(encoding="utf-8")
