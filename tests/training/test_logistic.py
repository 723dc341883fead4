"""A linear head is trained exactly, with a penalty that sources of their own choose."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.optimize
import threadpoolctl

from training.engine.choose_trainer import make_trainer
from training.engine.cross_fitting import PENALTIES
from training.engine.epoch_plan import FeatureSplit
from training.engine.logistic import LogisticTrainer
from training.engine.logistic_regression import StandardizedBasis
from training.recipe import Recipe, load_recipe
from vdeploy.core.errors import DatasetError, RecipeError, RunError
from vdeploy.features.prediction import predict

SOURCES = np.repeat(np.arange(16), 5)


def recipe(*overrides: str) -> Recipe:
    basis = ("head.name=pooling", "head.statistics=mean_std", "loss.gamma=0.0", "loss.label_smoothing=0.0")
    return load_recipe("default", (*basis, "optimizer.solver=logistic", *overrides))


def split(seed: int = 0, views: int | None = None) -> FeatureSplit:
    """Eighty clips of sixteen sources, in which two of twelve features tell the class."""
    random = np.random.default_rng(seed)
    labels = SOURCES % 2
    shape = (len(labels), views or 1, 6, 12)
    features = random.normal(size=shape) + random.normal(size=(16, 12))[SOURCES][:, None, None]
    features[..., 0] += 2 * labels[:, None, None]
    features[..., 1] -= 2 * labels[:, None, None]
    features = features if views else features[:, 0]
    return FeatureSplit(features.astype(np.float16), labels, np.array([f"s{source}" for source in SOURCES]))


def trained(folder: Path, chosen: Recipe, train: FeatureSplit | None = None) -> LogisticTrainer:
    trainer = make_trainer(chosen, train or split(), split(1), folder)
    assert isinstance(trainer, LogisticTrainer)
    trainer.fit()
    return trainer


def test_the_solution_is_that_of_scikit_learn() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    random = np.random.default_rng(0)
    x, targets = random.normal(3, 5, size=(40, 60)), np.arange(40) % 2
    x[:, 7] = 4.0
    deviation = np.where(x.std(axis=0) > 0, x.std(axis=0), 1)
    for penalty in (0.1, 10.0):
        fit = StandardizedBasis(x, targets.astype(float), np.ones(len(x))).fit(penalty)
        reference = linear_model.LogisticRegression(C=1 / (penalty * len(x)), tol=1e-8, max_iter=10_000)
        reference.fit((x - x.mean(axis=0)) / deviation, targets)
        np.testing.assert_allclose(fit.weights * deviation, reference.coef_[0], atol=1e-4)
        assert fit.weights[7] == 0
        expected = reference.predict_proba((x - x.mean(axis=0)) / deviation)[:, 1]
        np.testing.assert_allclose(fit.probabilities(x), expected, atol=1e-4)


def test_the_model_gives_the_fitted_probabilities_and_learns_what_can_be_learned(tmp_path: Path) -> None:
    trainer = trained(tmp_path, recipe())
    probabilities = predict(trainer.model, split(1).features)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    assert np.mean(probabilities.argmax(axis=1) == split(1).labels) > 0.85
    assert trainer.penalty in PENALTIES
    assert trainer.best.valid_auc == pytest.approx(trainer.history[0].valid_auc)
    assert (tmp_path / "history.csv").read_text().count("\n") == 2


def test_the_same_twice(tmp_path: Path) -> None:
    first, again = (trained(tmp_path, recipe()) for _ in range(2))
    for mine, other in zip(first.model.get_weights(), again.model.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, other)


def test_held_out_clips_are_judged_by_other_sources(tmp_path: Path) -> None:
    """Features that mark the source alone, and labels without a reason: nothing can be learned for a new source."""
    marks = np.random.default_rng(3).normal(size=(16, 12))[SOURCES]
    features = np.repeat(marks[:, None], 6, axis=1).astype(np.float16)
    labels = np.random.default_rng(4).integers(0, 2, 16)[SOURCES]
    known = FeatureSplit(features, labels, split().groups)
    trainer = trained(tmp_path, recipe(), known)
    fitted = predict(trainer.model, features)[:, 1]
    assert np.mean((fitted >= 0.5) == labels) > np.mean((trainer.held_out >= 0.5) == labels) + 0.15
    assert trainer.penalty == max(PENALTIES)


def test_clips_without_a_source_stand_alone() -> None:
    features, labels = np.zeros((4, 2, 3), np.float16), np.array([0, 1, 0, 1])
    assert FeatureSplit(features, labels).sources().tolist() == [0, 1, 2, 3]
    assert FeatureSplit(features, labels, np.array(["a", "", "a", ""])).sources().tolist() == [0, 1, 0, 2]


def test_views_count_as_one_clip(tmp_path: Path) -> None:
    """Three equal views teach what one of them teaches."""
    one = split()
    three = FeatureSplit(np.repeat(one.features[:, None], 3, axis=1), one.labels, one.groups)
    chosen = recipe("optimizer.l2=1.0")
    single, several = (predict(trained(tmp_path, chosen, part).model, one.features) for part in (one, three))
    np.testing.assert_allclose(single, several, atol=1e-4)


def test_a_given_penalty_is_taken(tmp_path: Path) -> None:
    assert trained(tmp_path, recipe("optimizer.l2=3.5")).penalty == 3.5


def test_classes_are_weighed(tmp_path: Path) -> None:
    even = trained(tmp_path, recipe("optimizer.l2=100.0", "loss.alpha=[0.5,0.5]")).model
    violent = trained(tmp_path, recipe("optimizer.l2=100.0", "loss.alpha=[0.1,0.9]")).model
    features = split().features
    assert predict(violent, features)[:, 1].mean() > predict(even, features)[:, 1].mean() + 0.2


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["head.dense=8"], 'fits a linear head, and pooling has layers of its own; set head.name = "pooling"'),
        (["loss.gamma=2.0"], "loss.gamma must be 0; set loss.gamma = 0"),
        (["augment.mixup=0.2"], "augment.mixup must be 0"),
        (["augment.cutmix=1.0"], "augment.cutmix must be 0"),
    ],
)
def test_what_it_cannot_do_is_refused(tmp_path: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        make_trainer(recipe(*overrides), split(), split(1), tmp_path)


def test_penalty_out_of_range() -> None:
    with pytest.raises(RecipeError, match='l2 must be "auto" or from 1e-9 to 1e9'):
        recipe("optimizer.l2=0.0")


def test_data_that_cannot_be_learned_from(tmp_path: Path) -> None:
    good = split()
    with pytest.raises(DatasetError, match="one class only"):
        make_trainer(recipe(), FeatureSplit(good.features, good.labels * 0), good, tmp_path)
    with pytest.raises(DatasetError, match="the validation split is empty"):
        make_trainer(recipe(), good, FeatureSplit(good.features[:0], good.labels[:0]), tmp_path)
    broken = FeatureSplit(np.where(np.arange(12) == 3, np.nan, good.features).astype(np.float16), good.labels)
    with pytest.raises(RunError, match="NaN or infinity"):
        make_trainer(recipe(), broken, good, tmp_path)
    few = FeatureSplit(good.features[:10], good.labels[:10], good.groups)
    lone = FeatureSplit(few.features, few.labels, np.array(["a"] * 10))
    with pytest.raises(DatasetError, match="too small for cross-validation"):
        make_trainer(recipe(), lone, good, tmp_path).fit()


def test_linear_algebra_uses_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside other programs, threads that wait for one another made a fit ten times slower."""
    minimize, threads = scipy.optimize.minimize, set()

    def watched(*arguments, **options):
        threads.update(pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas")
        return minimize(*arguments, **options)

    monkeypatch.setattr("scipy.optimize.minimize", watched)
    with threadpoolctl.threadpool_limits(2, "blas"):
        StandardizedBasis(np.eye(4), np.array([0.0, 1.0, 0.0, 1.0]), np.ones(4)).fit(0.1)
        after = {pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"}
    assert threads == {1}
    assert 1 not in after
