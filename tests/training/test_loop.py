"""One step of the loop is the step that the formulas say, with every augmentation, precision and way of feeding it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from training.engine import loop
from training.engine.epoch_plan import plan_epoch
from training.engine.trainer import FeatureSplit, Trainer
from training.recipe import Recipe, load_recipe
from vdeploy.core.lazy_imports import load_keras
from vdeploy.features.memory_mapped import ShardedFeatures
from vdeploy.features.prediction import predict
from vdeploy.models.normalization import normalize

pytestmark = pytest.mark.slow

LABELS = np.arange(44) % 2


def splits(views: int = 1) -> tuple[FeatureSplit, FeatureSplit]:
    random = np.random.default_rng(0)
    features = random.gamma(0.5, 20, (44, views, 6, 12)) + 3 * LABELS[:, None, None, None] * np.arange(6)[:, None]
    features = features.astype(np.float16)
    train = features[:30] if views > 1 else features[:30, 0]
    return FeatureSplit(train, LABELS[:30]), FeatureSplit(features[30:, 0], LABELS[30:])


def recipe(*overrides: str) -> Recipe:
    sizes = (
        "training.epochs=4",
        "training.batch=8",
        "head.units=8",
        "head.dense=8",
        "training.precision=float32",
    )
    return load_recipe("default", [*sizes, *overrides])


def losses(folder: Path, *overrides: str, views: int = 1) -> list[float]:
    trainer = Trainer(recipe(*overrides), *splits(views), folder)
    trainer.fit()
    return [record.loss for record in trainer.history]


@pytest.mark.parametrize(
    ("views", "pooling", "mixing"),
    [
        (1, "last", ("augment.mixup=0.5",)),
        (1, "mean", ("augment.cutmix=1.0",)),
        (3, "mean", ("augment.mixup=0.5", "augment.cutmix=1.0")),
    ],
)
def test_an_epochs_loss_is_the_mean_over_its_mixed_clips(
    tmp_path: Path, views: int, pooling: str, mixing: tuple[str, ...]
) -> None:
    """Without learning, the loss can be computed from the plan and the plain model's layers."""
    chosen = recipe(
        "training.epochs=1",
        "optimizer.learning_rate=1e-12",
        "head.dropout=0",
        f"head.pooling={pooling}",
        *mixing,
        "augment.frame_jitter=0.3",
        "augment.frame_drop=0.2",
    )
    train, valid = splits(views)
    trainer = Trainer(chosen, train, valid, tmp_path)
    trainer.fit()
    plan = plan_epoch(train, (0, 1), 8, np.ones(2, np.float32), chosen.augment)
    table = np.asarray(normalize(train.features[:].reshape(-1, 12), "float32"))
    names = ("lstm", *(["mean"] if pooling == "mean" else []), "dense", "logits", "probabilities")
    rest = load_keras().Sequential([trainer.model.get_layer(name) for name in names])
    expected = []
    for step, rows in enumerate(plan.table_rows()):
        features = table[rows.T]
        if plan.share is not None and plan.partner is not None:
            share = plan.share[step][:, None, None]
            features = share * features + (1 - share) * features[plan.partner[step]]
        p = rest(features).numpy()
        smooth = plan.targets[step] * 0.95 + 0.025
        each = -(0.5 * smooth * (1 - p) ** 2 * np.log(p)).sum(1)
        expected.extend(each[: int(plan.counts[step])])
    assert trainer.history[0].loss == pytest.approx(np.mean(expected), rel=1e-5)


def test_the_recurrence_compiled_for_large_batches_learns_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = losses(tmp_path / "plain", "head.pooling=mean")
    monkeypatch.setattr(loop, "_COMPILED_FROM", 1)
    np.testing.assert_allclose(losses(tmp_path / "compiled", "head.pooling=mean"), plain, rtol=1e-5)


def test_views_are_trained_on(tmp_path: Path) -> None:
    one = losses(tmp_path / "one", "head.dropout=0")
    several = losses(tmp_path / "several", "head.dropout=0", views=3)
    assert one != several


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_streamed_features_give_the_same_losses_to_the_last_bit(tmp_path: Path, precision: str) -> None:
    train, valid = splits()
    for index in range(3):
        np.save(tmp_path / f"{index}.npy", train.features[index * 10 : index * 10 + 10])
    sharded = FeatureSplit(ShardedFeatures([tmp_path / f"{index}.npy" for index in range(3)]), train.labels)
    options = (f"training.precision={precision}", "augment.mixup=0.3", "augment.cutmix=1.0")
    resident = losses(tmp_path / "resident", *options)
    assert Trainer(recipe(*options), sharded, valid, tmp_path / "unused")._tables.resident
    streamed = Trainer(recipe(*options, "training.memory_limit_gb=3e-6"), sharded, valid, tmp_path / "streamed")
    assert not streamed._tables.resident
    assert streamed._tables.portion_steps == 1
    streamed.fit()
    assert [record.loss for record in streamed.history] == resident


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """Losses in float32 without XLA."""
    return losses(tmp_path_factory.mktemp("reference"), "training.xla=false")


@pytest.mark.parametrize(
    ("precision", "tolerance", "xla"),
    [
        ("float32", 1e-5, "true"),
        ("mixed_bfloat16", 2e-2, "false"),
        ("mixed_float16", 3e-3, "false"),
        pytest.param("mixed_bfloat16", 2e-2, "true", marks=pytest.mark.slow),
        pytest.param("mixed_float16", 3e-3, "true", marks=pytest.mark.slow),
    ],
)
def test_all_precisions_learn_the_same_and_the_model_is_float32(
    tmp_path: Path, reference: list[float], precision: str, tolerance: float, xla: str
) -> None:
    trainer = Trainer(recipe(f"training.precision={precision}", f"training.xla={xla}"), *splits(), tmp_path / "other")
    trainer.fit()
    np.testing.assert_allclose([record.loss for record in trainer.history], reference, rtol=tolerance)
    assert {variable.dtype for variable in trainer.model.trainable_variables} == {"float32"}
    assert predict(trainer.model, splits()[1].features).dtype == np.float32


def test_the_saved_model_is_plain_keras(tmp_path: Path) -> None:
    keras = load_keras()
    trainer = Trainer(recipe("training.precision=mixed_bfloat16"), *splits(), tmp_path)
    trainer.fit()
    trainer.model.save(tmp_path / "classifier.keras")
    loaded = keras.saving.load_model(tmp_path / "classifier.keras", safe_mode=True)
    assert type(loaded.get_layer("lstm")) is keras.layers.LSTM
    features = splits()[1].features
    np.testing.assert_array_equal(predict(loaded, features), predict(trainer.model, features))
