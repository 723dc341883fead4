"""The average of the weights is that of the formula, is what is judged and kept, and survives a kill bit for bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from killed_training import kill_when_written

from training.engine.checkpoints import CheckpointFolder
from training.engine.choose_trainer import make_trainer
from training.engine.epoch_plan import FeatureSplit
from training.engine.trainer import Trainer
from training.experiments.ablation import ladder
from training.recipe import Recipe, load_recipe
from vdeploy.core.errors import RecipeError
from vdeploy.features.prediction import predict

DECAY = 0.8
STEPS_OF_AN_EPOCH = 3


def split(seed: int = 0) -> FeatureSplit:
    labels = np.arange(24) % 2
    features = np.random.default_rng(seed).gamma(0.5, 20, (24, 4, 6)) + 3 * labels[:, None, None]
    return FeatureSplit(features.astype(np.float16), labels)


def recipe(*overrides: str) -> Recipe:
    sizes = ("training.epochs=4", "training.batch=8", "head.units=4", "head.dense=4", "training.precision=float32")
    return load_recipe("default", [*sizes, f"averaging.decay={DECAY}", "optimizer.learning_rate=0.02", *overrides])


class Recording(Trainer):
    """Keeps the weights after every epoch."""

    def _train_epoch(self, epoch: int) -> float:
        loss = super()._train_epoch(epoch)
        self.__dict__.setdefault("recorded", []).append(self._loop.weights())
        return loss


def trained(folder: Path, *overrides: str) -> Trainer:
    trainer = Trainer(recipe(*overrides), split(), split(1), folder)
    trainer.fit()
    return trainer


@pytest.mark.slow
def test_the_average_is_that_of_the_formula(tmp_path: Path) -> None:
    """One step an epoch, so that the weights after every step are known."""
    trainer = Recording(recipe("training.batch=24", "training.epochs=6"), split(), split(1), tmp_path)
    trainer.fit()
    after_steps = trainer.__dict__["recorded"]
    shares = np.array([DECAY ** (len(after_steps) - 1 - index) for index in range(len(after_steps))])
    shares *= (1 - DECAY) / (1 - DECAY ** len(after_steps))
    assert shares.sum() == pytest.approx(1)
    for index, average in enumerate(trainer._loop.judged_weights()):
        expected = sum(share * weights[index] for share, weights in zip(shares, after_steps, strict=True))
        np.testing.assert_allclose(average, expected, atol=1e-6)
        assert index or np.abs(average - after_steps[-1][index]).max() > 1e-3


@pytest.mark.slow
def test_the_average_is_judged_and_kept_and_does_not_change_the_steps(tmp_path: Path) -> None:
    with_average, without = trained(tmp_path / "a"), trained(tmp_path / "b", "averaging.decay=0")
    for one, other in zip(with_average._loop.weights(), without._loop.weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert [record.loss for record in with_average.history] == [record.loss for record in without.history]
    assert [record.valid_loss for record in with_average.history] != [record.valid_loss for record in without.history]
    best = CheckpointFolder(tmp_path / "a" / "checkpoints").best()
    assert int(best.average[-1]) == STEPS_OF_AN_EPOCH * with_average.best.epoch
    for kept, average, last in zip(with_average.model.get_weights(), best.average, best.model, strict=False):
        np.testing.assert_array_equal(kept, average)
        assert not np.array_equal(kept, last)
    labels = split(1).labels
    loss = np.asarray(
        with_average._loss(np.eye(2, dtype=np.float32)[labels], predict(with_average.model, split(1).features))
    )
    assert loss.mean() == pytest.approx(with_average.best.valid_loss, rel=1e-6)


@pytest.mark.slow
def test_a_killed_training_ends_bit_identical(tmp_path: Path) -> None:
    options = ("training.epochs=30", "training.patience=100")
    whole, folder = trained(tmp_path / "whole", *options), tmp_path / "killed"
    kill_when_written("checkpoints/epoch-*.npz", "test_weight_averaging", folder, *options)
    latest = CheckpointFolder(folder / "checkpoints").latest()
    assert latest is not None
    assert latest.epoch < 30
    resumed = trained(folder, *options)
    assert [record.valid_loss for record in resumed.history] == [record.valid_loss for record in whole.history]
    for one, other in zip(resumed.model.get_weights(), whole.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(resumed._loop.average_state(), whole._loop.average_state(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_a_best_epoch_before_the_interruption_is_kept(tmp_path: Path) -> None:
    finished = trained(tmp_path)
    again = Trainer(recipe(), split(), split(1), tmp_path)
    again.fit()
    for one, other in zip(again.model.get_weights(), finished.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_training_without_an_average_writes_the_checkpoints_of_earlier_versions(tmp_path: Path) -> None:
    trained(tmp_path, "averaging.decay=0")
    with np.load(tmp_path / "checkpoints" / "best.npz") as archive:
        assert {name.partition("_")[0] for name in archive.files} == {"model", "optimizer", "header"}


@pytest.mark.parametrize("decay", ["1.0", "-0.1", "much"])
def test_a_wrong_decay_is_one_clear_line(decay: str) -> None:
    with pytest.raises(RecipeError, match=r"averaging\.decay: .*got ") as caught:
        recipe(f"averaging.decay={decay}")
    assert "\n" not in str(caught.value)


def test_the_exact_solution_has_no_steps_to_average(tmp_path: Path) -> None:
    linear = ("loss.gamma=0.0", "head.name=pooling", f"averaging.decay={DECAY}")
    assert load_recipe("default", linear).solver == "adamw"
    with pytest.raises(RecipeError, match=r"averaging\.decay must be 0\.0; set averaging\.decay = 0\.0"):
        make_trainer(load_recipe("default", [*linear, "optimizer.solver=logistic"]), split(), split(1), tmp_path)


def test_the_ladder_has_a_row_for_it() -> None:
    arms = {arm.name: arm.recipe for arm in ladder(recipe())}
    assert arms["cross-entropy"].averaging.decay == 0
    assert arms["+ average of weights"].averaging.decay == DECAY
    assert "+ average of weights" not in {arm.name for arm in ladder(load_recipe())}
    assert "averaging" not in load_recipe().identity
