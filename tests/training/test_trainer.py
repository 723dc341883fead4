"""The training loop learns, repeats itself exactly, and goes on exactly after a kill."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from training.engine.checkpoints import Checkpoint, CheckpointFolder
from training.engine.trainer import FeatureSplit, Trainer
from training.recipe import Recipe, load_recipe
from vdeploy.core.errors import DatasetError, RunError
from vdeploy.features.prediction import predict


def splits(seed: int = 0, count: int = 60) -> tuple[FeatureSplit, FeatureSplit]:
    """Sequences whose mean drifts up (violent) or down."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    drift = np.linspace(-1, 1, 6)[None, :, None] * (2 * labels - 1)[:, None, None]
    features = (random.normal(size=(count, 6, 12)) + drift * np.linspace(-2, 2, 12)).astype(np.float16)
    half = count * 2 // 3
    return FeatureSplit(features[:half], labels[:half]), FeatureSplit(features[half:], labels[half:])


def recipe(*overrides: str) -> Recipe:
    return load_recipe(
        "default",
        [
            "training.epochs=6",
            "training.batch=16",
            "head.units=8",
            "head.dense=8",
            "training.precision=float32",
            *overrides,
        ],
    )


def trained(folder: Path, *overrides: str) -> Trainer:
    trainer = Trainer(recipe(*overrides), *splits(), folder)
    trainer.fit()
    return trainer


@pytest.mark.slow
def test_it_learns_and_keeps_the_best_epoch(tmp_path: Path) -> None:
    trainer = trained(tmp_path, "training.epochs=30", "optimizer.learning_rate=0.01", "head.dropout=0.1")
    _, valid = splits()
    probabilities = predict(trainer.model, valid.features)
    assert np.mean(probabilities.argmax(1) == valid.labels) >= 0.9
    assert trainer.best.rank == max(record.rank for record in trainer.history)
    from sklearn.metrics import roc_auc_score

    assert roc_auc_score(valid.labels, probabilities[:, 1]) == pytest.approx(trainer.best.valid_auc)
    rows = list(csv.DictReader((tmp_path / "history.csv").read_text(encoding="utf-8").splitlines()))
    assert [int(row["epoch"]) for row in rows] == list(range(1, len(trainer.history) + 1))
    assert list((tmp_path / "tensorboard").iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("normalization", ["layer", "square_root"])
def test_the_step_and_the_model_take_the_same_features(tmp_path: Path, precision: str, normalization: str) -> None:
    plain = ["optimizer.solver=adamw", "optimizer.learning_rate=1e-9", "loss.alpha=[1.0, 1.0]", "training.epochs=1"]
    chosen = load_recipe("accurate", [*plain, f"head.normalization={normalization}", f"training.precision={precision}"])
    train, _ = splits()
    trainer = Trainer(chosen, train, train, tmp_path)
    trainer.fit()
    (record,) = trainer.history
    assert record.loss == pytest.approx(record.valid_loss, rel=1e-5 if precision == "float32" else 1e-2)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_curve(tmp_path: Path) -> None:
    curves = [
        [record.loss for record in trained(tmp_path / name, f"training.seed={seed}").history]
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    assert curves[0] == curves[1]
    assert curves[0] != curves[2]


@pytest.mark.slow
def test_warm_up_is_linear_and_the_cosine_ends_at_the_floor(tmp_path: Path) -> None:
    trainer = trained(
        tmp_path, "training.epochs=12", "optimizer.warmup_epochs=2", "optimizer.floor=0.1", "training.patience=100"
    )
    rates = [record.learning_rate for record in trainer.history]
    assert max(rates) == rates[1] == pytest.approx(1e-3)
    assert rates[-1] == pytest.approx(1e-4, rel=1e-3)
    middle = 1e-4 + 0.9e-3 * 0.5 * (1 + np.cos(np.pi * 5 / 10))
    assert rates[6] == pytest.approx(middle, rel=1e-3)


@pytest.mark.slow
def test_it_stops_when_patience_runs_out(tmp_path: Path) -> None:
    trainer = trained(tmp_path, "training.epochs=200", "training.patience=3", "optimizer.learning_rate=0.02")
    assert len(trainer.history) == trainer.best.epoch + 3 < 200


def test_the_last_partial_batch_counts_once(tmp_path: Path) -> None:
    """40 clips in batches of 16: without learning, the epoch's loss is the plain mean over clips."""
    trainer = trained(tmp_path, "training.epochs=1", "optimizer.learning_rate=1e-12", "head.dropout=0")
    train, _ = splits()
    p = predict(trainer.model, train.features)
    smooth = np.eye(2)[train.labels] * 0.95 + 0.025
    expected = np.mean(-(0.5 * smooth * (1 - p) ** 2 * np.log(p)).sum(1))
    assert trainer.history[0].loss == pytest.approx(expected, rel=1e-4)


@pytest.mark.slow
def test_class_weights_scale_the_loss_of_the_rare_class(tmp_path: Path) -> None:
    train, valid = splits()
    keep = np.flatnonzero((train.labels == 0) | (np.arange(len(train.labels)) % 4 == 1))
    rare = FeatureSplit(train.features[keep], train.labels[keep])
    options = (
        "training.epochs=1",
        "optimizer.learning_rate=1e-12",
        "head.dropout=0",
        "loss.alpha=[1, 1]",
        "loss.gamma=0",
    )
    losses = {}
    for name in ("none", "balanced"):
        trainer = Trainer(recipe(*options, f"loss.class_weights={name}"), rare, valid, tmp_path / name)
        trainer.fit()
        losses[name] = trainer.history[0].loss
    p = predict(trainer.model, rare.features)
    smooth = np.eye(2)[rare.labels] * 0.95 + 0.025
    each = -(smooth * np.log(p)).sum(1)
    weights = len(rare.labels) / (2 * np.bincount(rare.labels))
    assert losses["none"] == pytest.approx(each.mean(), rel=1e-4)
    assert losses["balanced"] == pytest.approx((each * weights[rare.labels]).mean(), rel=1e-4)


@pytest.mark.parametrize("epochs_before_the_kill", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_a_killed_training_ends_bit_identical(tmp_path: Path, epochs_before_the_kill: int) -> None:
    whole = trained(tmp_path / "whole")
    folder = tmp_path / "killed"
    code = f"from pathlib import Path; from test_trainer import trained; trained(Path({str(folder)!r}))"
    paths = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[2])])
    with subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": paths}, stderr=subprocess.DEVNULL
    ) as process:
        deadline = time.monotonic() + 90
        while not list(folder.glob(f"checkpoints/epoch-*{epochs_before_the_kill}.npz")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
    resumed = trained(folder)
    assert [record.loss for record in resumed.history] == [record.loss for record in whole.history]
    for one, other in zip(resumed.model.variables, whole.model.variables, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


def test_one_class_only_is_refused(tmp_path: Path) -> None:
    train, valid = splits()
    with pytest.raises(DatasetError, match="one class only"):
        Trainer(recipe(), FeatureSplit(train.features, np.zeros_like(train.labels)), valid, tmp_path)


def test_an_empty_validation_split_is_refused(tmp_path: Path) -> None:
    train, valid = splits()
    with pytest.raises(DatasetError, match="validation split is empty"):
        Trainer(recipe(), train, FeatureSplit(valid.features[:0], valid.labels[:0]), tmp_path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("which", [0, 1])
def test_features_that_are_no_numbers_are_refused(tmp_path: Path, value: float, which: int) -> None:
    both = splits()
    both[which].features[3, 2, 1] = value
    with pytest.raises(RunError, match="features hold NaN or infinity"):
        Trainer(recipe(), *both, tmp_path).fit()
    assert not list((tmp_path / "checkpoints").glob("*"))


def checkpoint(epoch: int) -> Checkpoint:
    return Checkpoint(epoch, [np.full((2, 3), epoch, np.float32)], [np.int64(epoch).reshape(())], {"history": [epoch]})


def test_checkpoints_round_trip_and_old_ones_go(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path, keep=2)
    for epoch in range(1, 6):
        folder.save(checkpoint(epoch), best=epoch == 3)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["best.npz", "epoch-00004.npz", "epoch-00005.npz"]
    latest = folder.latest()
    assert latest is not None
    assert (latest.epoch, latest.state) == (5, {"history": [5]})
    np.testing.assert_array_equal(latest.model[0], np.full((2, 3), 5))
    assert folder.best().epoch == 3


def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    folder.save(checkpoint(1), best=True)
    folder.save(checkpoint(2), best=False)
    newest = tmp_path / "epoch-00002.npz"
    for damage in (newest.read_bytes()[:100], b""):
        newest.write_bytes(damage)
        latest = folder.latest()
        assert latest is not None
        assert latest.epoch == 1
    (tmp_path / "best.npz").unlink()
    with pytest.raises(RunError, match=r"best\.npz cannot be read"):
        folder.best()


def test_a_full_disk_keeps_the_earlier_checkpoint(tmp_path: Path) -> None:
    CheckpointFolder(tmp_path).save(checkpoint(1), best=True)
    code = f"""
import resource, signal
from pathlib import Path
from test_trainer import CheckpointFolder, RunError, checkpoint
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
try:
    CheckpointFolder(Path({str(tmp_path)!r})).save(checkpoint(2), best=True)
except RunError as error:
    print(error)
"""
    paths = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[2])])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "cannot write a checkpoint" in done.stdout
    latest = CheckpointFolder(tmp_path).latest()
    assert latest is not None
    assert latest.epoch == CheckpointFolder(tmp_path).best().epoch == 1
    assert sorted(file.name for file in tmp_path.iterdir()) == ["best.npz", "epoch-00001.npz"]
