"""Folds keep the clips of a source together, and what is judged has no part in the training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from training.engine.trainer import FeatureSplit
from training.experiments.cross_validation import CrossValidation, cross_validate
from training.experiments.folds import extract_folds, grouped_folds
from training.pipeline import scan_source
from training.recipe import Recipe, load_recipe
from vdeploy.core.errors import DatasetError


@pytest.fixture
def clips() -> tuple[np.ndarray, np.ndarray]:
    """Labels and groups: twelve sources of four clips, most of them of one class."""
    groups = np.repeat([f"s{number:02}" for number in range(12)], 4)
    labels = np.tile([0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 0, 0], 4).astype(np.int64)
    return labels, groups


@pytest.fixture
def recipe() -> Recipe:
    few = ("training.epochs=20", "training.patience=4", "training.batch=16")
    return load_recipe("edge", (*few, "optimizer.learning_rate=0.05", "head.dropout=0.0"))


def test_every_clip_is_judged_once_and_by_other_sources(clips):
    labels, groups = clips
    judged = []
    for fold in grouped_folds(labels, groups, 4, 0):
        parts = [set(groups[part]) for part in (fold.train, fold.valid, fold.judged)]
        assert len(set.union(*parts)) == sum(len(part) for part in parts)
        assert len(fold.train) + len(fold.valid) + len(fold.judged) == len(labels)
        judged += fold.judged.tolist()
    assert sorted(judged) == list(range(len(labels)))


def test_a_seed_decides_on_the_folds(clips):
    first, again, other = ([fold.judged.tolist() for fold in grouped_folds(*clips, 4, seed)] for seed in (0, 0, 1))
    assert first == again != other


def test_too_few_sources(clips):
    labels, groups = clips
    with pytest.raises(DatasetError, match="3 sources are too few for 5 folds; give fewer folds"):
        list(grouped_folds(labels[:12], groups[:12], 5, 0))


@pytest.mark.slow
def test_what_can_be_learned_is_learned_and_what_marks_a_source_is_not(clips, recipe, monkeypatch, capsys):
    monkeypatch.setattr("vdeploy.core.progress._console", None)
    labels, groups = clips
    rng = np.random.default_rng(0)
    signal = rng.normal(size=(len(labels), 4, 8)) + 3 * labels[:, None, None] * np.array([1, -1] * 4)
    found = cross_validate(
        recipe, FeatureSplit(signal.astype(np.float16), labels, groups), seeds=1, folds=3, name="tiny"
    )
    *sooner, last = capsys.readouterr().err.splitlines()
    assert last.startswith("cross-validate tiny: 3/3 trainings")
    assert all(line.startswith("cross-validate tiny: ") for line in sooner)
    assert found.accuracy().value > 0.9
    decided = found.decided_accuracy()
    assert decided is not None
    assert decided.value > 0.9
    # Every clip of a source has the same features: they tell the clips of a known source apart, not those of a new one.
    marks = dict(zip(np.unique(groups), rng.normal(size=(12, 8)), strict=True))
    alike = np.stack([np.tile(marks[group], (4, 1)) for group in groups]).astype(np.float16)
    leaked = cross_validate(recipe, FeatureSplit(alike, np.arange(len(groups)) % 2, groups), seeds=1, folds=3)
    assert leaked.accuracy().value == pytest.approx(0.5)


@pytest.mark.slow
def test_only_the_usual_view_is_judged(clips, recipe):
    """The second view of each clip tells nothing, so a verdict on it would be chance."""
    labels, groups = clips
    usual = np.random.default_rng(0).normal(size=(48, 4, 8)) + 3 * labels[:, None, None] * np.array([1, -1] * 4)
    views = np.stack([usual, usual], axis=1).astype(np.float16)
    alike = cross_validate(recipe, FeatureSplit(views, labels, groups), seeds=1, folds=3)
    one = cross_validate(recipe, FeatureSplit(views[:, 0], labels, groups), seeds=1, folds=3)
    np.testing.assert_allclose(alike.probabilities, one.probabilities, atol=0.01)
    views[:, 1] = np.random.default_rng(1).normal(size=usual.shape)
    assert cross_validate(recipe, FeatureSplit(views, labels, groups), seeds=1, folds=3).accuracy().value > 0.8


@pytest.mark.slow
def test_all_views_of_all_clips_are_extracted(clips_dir: Path, tiny_overrides: tuple[str, ...], tmp_path: Path):
    mirrored = load_recipe("default", [*tiny_overrides, "clip.mirrored=true"])
    weights = mirrored.make_backbone().find_weights()
    dataset, split = extract_folds(scan_source(clips_dir, mirrored), mirrored, weights, tmp_path)
    features = split.features
    assert features.shape[:2] == (len(dataset.clips), 2)
    assert len(dataset.of("train")) == len(dataset.clips)
    plain = mirrored.varied(clip={"mirrored": False})
    np.testing.assert_array_equal(extract_folds(dataset, plain, weights, tmp_path)[1].features, features[:, 0])


def test_figures_are_means_over_seeds_with_intervals_over_sources():
    labels = np.array([0, 0, 1, 1])
    groups = np.array(["a", "a", "b", "b"])
    result = CrossValidation(labels, groups, np.array([[0.1, 0.2, 0.8, 0.9], [0.1, 0.6, 0.8, 0.4]]))
    assert result.seed_accuracy == (1.0, 0.5)
    accuracy = result.accuracy()
    assert accuracy.value == 0.75
    assert accuracy.low <= accuracy.value <= accuracy.high
    assert result.roc_auc().value == pytest.approx((1.0 + 0.75) / 2)


def test_the_area_is_that_of_the_curve_with_ties(clips):
    labels, groups = clips
    probabilities = np.random.default_rng(0).integers(0, 5, (3, len(labels))) / 4
    expected = np.mean([roc_auc_score(labels, row) for row in probabilities])
    assert CrossValidation(labels, groups, probabilities).roc_auc().value == pytest.approx(expected)


def test_verdicts_follow_the_threshold_of_the_recipe(clips, recipe):
    labels, groups = clips
    signal = np.random.default_rng(0).normal(size=(len(labels), 4, 8)) + labels[:, None, None] * np.array([1, -1] * 4)
    strict = recipe.varied(decision={"threshold": 0.99})
    found = cross_validate(strict, FeatureSplit(signal.astype(np.float16), labels, groups), seeds=1, folds=3)
    assert found.verdicts is not None
    assert found.verdicts.sum() < (found.probabilities >= 0.5).sum()


def test_without_verdicts_nothing_is_decided():
    assert CrossValidation(np.array([0, 1]), np.array(["a", "b"]), np.array([[0.1, 0.9]])).decided_accuracy() is None
