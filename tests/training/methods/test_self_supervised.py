"""VICReg follows its paper, a trunk learns, is what a training starts from, and resumes exactly."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from killed_training import kill_when_written

from training.engine.choose_trainer import make_trainer
from training.engine.epoch_plan import FeatureSplit
from training.engine.trainer import Trainer
from training.experiments.ablation import ladder
from training.methods.self_supervised.pretrainer import Pretrainer
from training.methods.self_supervised.trunk import trunk_sha256, write_trunk
from training.methods.self_supervised.vicreg import paired_loss
from training.methods.self_supervised.views import EmbeddedTrunk, plan_pairs
from training.recipe import Recipe, load_recipe
from training.recipe_sections import PretrainSection
from vdeploy.core.errors import DatasetError, RecipeError, RunError
from vdeploy.core.lazy_imports import load_keras, load_tensorflow
from vdeploy.models.weights.find import Weights

COMMON = (
    *("clip.size=32", "clip.frames=4", "backbone.weights=random", "training.precision=float32", "training.batch=8"),
    *("pretrain.batch=16", "pretrain.expander=8", "pretrain.learning_rate=0.01", "pretrain.epochs=6"),
)
LABELS = np.arange(48) % 2


def recipe(*overrides: str) -> Recipe:
    return load_recipe("default", [*COMMON, "head.units=4", "head.dense=8", *overrides])


def windows(seed: int = 0) -> npt.NDArray[np.float16]:
    features = np.random.default_rng(seed).normal(size=(48, 4, 6))
    features[..., 0] += 3 * LABELS[:, None]
    return features.astype(np.float16)


def trained(folder: Path, *overrides: str) -> list[npt.NDArray[np.float32]]:
    """Also run by `killed_training`."""
    return Pretrainer(recipe(*overrides), windows(), folder).fit()


def trunk(folder: Path, *overrides: str) -> Recipe:
    """The recipe on a trunk that was trained in a folder."""
    chosen, pretrainer = recipe(*overrides), Pretrainer(recipe(*overrides), windows(), folder)
    weights = pretrainer.fit()
    write_trunk(folder, weights, chosen, chosen.make_backbone().find_weights(), pretrainer.history)
    return chosen.varied(pretrain={"trunk": str(folder)})


def trainer(chosen: Recipe, folder: Path) -> Trainer:
    made = make_trainer(chosen, FeatureSplit(windows(), LABELS), FeatureSplit(windows(1), LABELS), folder)
    assert isinstance(made, Trainer)
    return made


def by_the_paper(one: npt.NDArray[Any], other: npt.NDArray[Any], section: PretrainSection) -> float:
    count, width = one.shape
    invariance = sum(((one[i] - other[i]) ** 2).sum() for i in range(count)) / (count * width)
    variance = covariance = 0.0
    for z in (one, other):
        mean = z.mean(axis=0)
        matrix = sum(np.outer(z[i] - mean, z[i] - mean) for i in range(count)) / (count - 1)
        for j in range(width):
            variance += max(0.0, 1 - np.sqrt(np.var(z[:, j], ddof=1) + 1e-4)) / width
            covariance += sum(matrix[i, j] ** 2 for i in range(width) if i != j) / width
    return section.invariance * invariance + section.variance * variance + section.covariance * covariance


def test_the_loss_and_its_gradient_are_those_of_the_paper() -> None:
    tf: Any = load_tensorflow()
    section = PretrainSection(invariance=3.0, variance=5.0, covariance=7.0)
    embeddings = np.random.default_rng(2).normal(scale=(0.3, 0.9, 3.0), size=(10, 3))
    given = tf.constant(embeddings, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(given)
        losses = paired_loss(section)(None, given)
        mean = tf.reduce_mean(losses)
    expected = by_the_paper(embeddings[0::2], embeddings[1::2], section)
    np.testing.assert_allclose(losses, np.full(10, expected), rtol=1e-4)
    found = tape.gradient(mean, given).numpy()
    step = 1e-5
    for place in np.ndindex(embeddings.shape):
        moved = [embeddings.copy() for _ in range(2)]
        moved[0][place] += step
        moved[1][place] -= step
        up, down = (by_the_paper(values[0::2], values[1::2], section) for values in moved)
        np.testing.assert_allclose(found[place], (up - down) / (2 * step), rtol=2e-3, atol=2e-4)


def test_views_come_in_pairs_that_show_different_parts_of_one_window() -> None:
    plan = plan_pairs(20, 8, (3, 1), 6, 0.5)
    assert plan.rows.shape == (3, 12)
    np.testing.assert_array_equal(plan.rows[:, 0::2], plan.rows[:, 1::2])
    assert len(set(plan.rows.ravel().tolist())) == 18
    frames = plan.frames.reshape(-1, 8)
    spans = frames.max(axis=1) - frames.min(axis=1) + 1
    assert set(spans.tolist()) == {4, 5, 6, 7, 8}
    assert (np.diff(frames, axis=1) >= 0).all()
    assert (frames.min(), frames.max()) == (0, 7)
    assert (plan.frames[:, 0::2] != plan.frames[:, 1::2]).any(axis=2).mean() > 0.7
    np.testing.assert_array_equal(plan.frames, plan_pairs(20, 8, (3, 1), 6, 0.5).frames)
    assert (plan.rows != plan_pairs(20, 8, (3, 2), 6, 0.5).rows).any()
    np.testing.assert_array_equal(plan_pairs(4, 5, (0, 1), 4, 1.0).frames, np.broadcast_to(np.arange(5), (1, 8, 5)))


@pytest.mark.slow
@pytest.mark.parametrize("head", ["lstm", "gru", "transformer"])
def test_the_loss_falls_and_the_trunk_is_what_a_training_starts_from(tmp_path: Path, head: str) -> None:
    sizes = ("head.layers=1", "head.width=8") if head == "transformer" else ("head.units=16", "head.dense=16")
    own = (f"head.name={head}", *sizes, "pretrain.epochs=15", "pretrain.masked=0.1", "training.epochs=2")
    chosen = load_recipe("default", [*COMMON, *own])
    pretrainer = Pretrainer(chosen, windows(), tmp_path / "trunk")
    weights = pretrainer.fit()
    assert pretrainer.history[-1] < 0.9 * pretrainer.history[0]
    write_trunk(tmp_path / "trunk", weights, chosen, chosen.make_backbone().find_weights(), pretrainer.history)
    plain = trainer(chosen, tmp_path / "plain")
    started = trainer(chosen.varied(pretrain={"trunk": str(tmp_path / "trunk")}), tmp_path / "started")
    first, own_first = started._loop.weights(), plain._loop.weights()
    assert len(first) == len(weights) + 2
    embedded = EmbeddedTrunk(chosen.make_head(), chosen.pretrain).build((4, 6))
    names = [[weight.path for weight in model.weights] for model in (embedded, started.model)]
    assert names[0][: len(weights)] == names[1][: len(weights)]
    for one, other, unlike in zip(first, weights, own_first, strict=False):
        np.testing.assert_array_equal(one, other)
        assert one.shape == unlike.shape
        assert (one != unlike).any()
    np.testing.assert_array_equal(first[-2], own_first[-2])
    started.fit()
    plain.fit()
    assert started.history[0].loss != plain.history[0].loss


@pytest.mark.parametrize("normalization", ["layer", "square_root"])
def test_a_pooling_head_takes_the_same_features_in_both_trainings(normalization: str) -> None:
    own = ("head.name=pooling", "head.dense=4", f"head.normalization={normalization}")
    chosen = load_recipe("default", [*COMMON, *own])
    head, embedded = chosen.make_head(), EmbeddedTrunk(chosen.make_head(), chosen.pretrain)
    assert embedded.training_step((4, 6), "float32").normalized == head.normalized == (normalization == "layer")
    features = np.random.default_rng(0).gamma(0.5, 20, (3, 4, 6)).astype(np.float32)
    models = (head.build((4, 6)), embedded.build((4, 6)))
    ends = [load_keras().Model(model.input, model.get_layer("flat").output)(features).numpy() for model in models]
    np.testing.assert_array_equal(*ends)


@pytest.mark.slow
def test_a_trunk_tells_windows_apart_and_keeps_their_views_together(tmp_path: Path) -> None:
    """A trunk whose outputs are all alike has learned nothing."""
    started = trainer(trunk(tmp_path / "trunk", "pretrain.epochs=30"), tmp_path / "run")
    outputs = load_keras().Model(started.model.input, started.model.get_layer("logits").input)
    found = np.asarray(outputs(windows().astype(np.float32)))
    assert (found.std(axis=0) > 0.05).sum() > 2


@pytest.mark.slow
def test_few_windows_make_one_batch_and_one_makes_none(tmp_path: Path) -> None:
    pretrainer = Pretrainer(recipe(), windows()[:5], tmp_path / "few")
    pretrainer.fit()
    assert len(pretrainer.history) == 6
    with pytest.raises(DatasetError, match="fewer than two windows"):
        Pretrainer(recipe(), windows()[:1], tmp_path / "one")


@pytest.mark.slow
def test_streamed_features_give_the_same_weights(tmp_path: Path) -> None:
    for one, other in zip(
        trained(tmp_path / "whole"), trained(tmp_path / "streamed", "training.memory_limit_gb=1e-6"), strict=True
    ):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_an_interrupted_pretraining_ends_bit_identical(tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole")
    trained(tmp_path / "part", "pretrain.epochs=6")
    for checkpoint in sorted((tmp_path / "part" / "checkpoints").glob("*.npz"))[1:]:
        checkpoint.unlink()
    pretrainer = Pretrainer(recipe(), windows(), tmp_path / "part")
    for one, other in zip(pretrainer.fit(), whole, strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(pretrainer.history) == 6


@pytest.mark.slow
def test_a_killed_pretraining_ends_bit_identical(tmp_path: Path) -> None:
    longer, folder = "pretrain.epochs=150", tmp_path / "killed"
    whole = trained(tmp_path / "whole", longer)
    for awaited in ("checkpoints/epoch-*1.npz", "checkpoints/epoch-*2[0-9].npz"):
        kill_when_written(awaited, "test_self_supervised", folder, longer)
    assert not list(folder.glob("checkpoints/epoch-00150.npz"))
    for one, other in zip(trained(folder, longer), whole, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("head.units=5", r"was trained for another model: head\.units is 4 there and 5 here"),
        ("head.name=gru", r"head\.name is lstm there and gru here"),
        ("clip.size=64", r"clip\.size is 32 there and 64 here"),
        ("backbone.layer=avg45", r"backbone\.layer is avg there and avg45 here"),
    ],
)
def test_another_model_is_one_clear_line(tmp_path: Path, override: str, message: str) -> None:
    chosen = recipe()
    write_trunk(tmp_path, [], chosen, chosen.make_backbone().find_weights(), [1.0])
    other = recipe(override, f"pretrain.trunk={tmp_path}")
    with pytest.raises(RecipeError, match=message) as caught:
        trainer(other, tmp_path / "run")
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_other_weights_of_the_backbone_are_refused_and_other_dropout_is_not(tmp_path: Path) -> None:
    chosen = trunk(tmp_path / "trunk")
    trainer(chosen.varied(head={"dropout": 0.1}), tmp_path / "run")
    write_trunk(tmp_path / "trunk", [], chosen, Weights("other", None, "0" * 64), [1.0])
    with pytest.raises(RecipeError, match=r"backbone\.weights is 000000000000 there"):
        trainer(chosen, tmp_path / "run")


@pytest.mark.slow
def test_what_is_no_trunk_or_a_damaged_one_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"is no folder of vdeploy pretrain: it holds no pretraining\.json"):
        trainer(recipe(f"pretrain.trunk={tmp_path}"), tmp_path / "run")
    chosen = trunk(tmp_path / "trunk")
    shutil.copytree(tmp_path / "trunk", tmp_path / "copy")
    (tmp_path / "trunk" / "trunk.npz").write_bytes(b"PK")
    with pytest.raises(RunError, match=r"is damaged \(trunk\.npz has changed\); pre-train again"):
        trainer(chosen, tmp_path / "run")
    for content in ("{", '{"model": 1}', '{"model": {}}', "[]"):
        (tmp_path / "copy" / "pretraining.json").write_text(content)
        with pytest.raises(RunError, match="is damaged"):
            trainer(recipe(f"pretrain.trunk={tmp_path / 'copy'}"), tmp_path / "run")


def test_a_linear_head_has_no_trunk(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="a pooling head without a dense layer has no trunk to pre-train"):
        Pretrainer(load_recipe("edge"), windows(), tmp_path)
    with pytest.raises(RecipeError, match=r'pretrain\.trunk must be "": a pooling head'):
        load_recipe("edge", ["pretrain.trunk=somewhere"])


@pytest.mark.slow
def test_a_trunk_names_a_training_and_its_other_settings_do_not(tmp_path: Path) -> None:
    assert "pretrain" not in recipe().identity
    assert recipe("pretrain.batch=32").identity == recipe().identity
    assert recipe("pretrain.trunk=a").identity["pretrain"] == {"trunk": "a"}
    assert trunk_sha256(recipe()) == ""
    assert len(trunk_sha256(trunk(tmp_path / "trunk"))) == 64


def test_the_ladder_has_a_row_for_it() -> None:
    arms = {arm.name: arm.recipe for arm in ladder(recipe("pretrain.trunk=a"))}
    assert arms["cross-entropy"].pretrain.trunk == ""
    assert arms["+ pre-trained trunk"].pretrain.trunk == "a"
    assert "+ pre-trained trunk" not in {arm.name for arm in ladder(recipe())}
