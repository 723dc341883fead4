"""Fine-tuning: gradients reach the last blocks and nothing else, and bad recipes are one line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from testing.toy_models import toys_registered
from training.engine.choose_trainer import make_trainer
from training.engine.epoch_plan import FeatureSplit, plan_epoch
from training.methods.fine_tuning import BlocksAndHead, trunk_of
from training.recipe import Recipe, load_recipe
from vdeploy.core.errors import RecipeError
from vdeploy.core.lazy_imports import load_tensorflow
from vdeploy.features.prediction import predict
from vdeploy.models.extractor import FeatureExtractor
from vdeploy.models.trunk import Trunk
from vdeploy.models.weights.find import Weights

RANDOM = Weights("random", None, "0" * 64)
SMALL = ("clip.frames=2", "clip.size=32", "training.epochs=2", "training.batch=4", "backbone.weights=random")
SMALL_HEAD = ("head.units=8", "head.dense=8", "training.precision=float32")


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    with toys_registered():
        yield


def recipe(*overrides: str, name: str = "default", backbone: str = "toy-blocks") -> Recipe:
    return load_recipe(name, [f"backbone.name={backbone}", *SMALL, "fine_tune.blocks=1", *overrides])


def splits(trunk: Trunk, clips: int = 12) -> tuple[FeatureSplit, FeatureSplit]:
    """Clips whose first frames differ from the second ones where they are violent."""
    random, labels = np.random.default_rng(0), np.arange(clips) % 2
    frames = random.integers(0, 128, (clips, 2, 32, 32, 3), dtype=np.uint8)
    frames[labels == 1, 1] += 100
    activations = FeatureExtractor(trunk, RANDOM, trunk.spec).extract(frames).astype(np.float16)
    train, valid = slice(0, clips - 4), slice(clips - 4, clips)
    return FeatureSplit(activations[train], labels[train]), FeatureSplit(activations[valid], labels[valid])


@pytest.mark.parametrize("blocks", [0, 1])
def test_what_cutmix_pastes_are_the_features_of_clips_whose_frames_are_cut(blocks: int) -> None:
    """Those of the whole backbone, and the activations of a trunk."""
    chosen = recipe("clip.frames=6", f"fine_tune.blocks={blocks}", "augment.cutmix=1.0")
    backbone = trunk_of(chosen, RANDOM) or chosen.make_backbone()
    extractor = FeatureExtractor(backbone, RANDOM, chosen.clip_spec)
    frames = np.random.default_rng(0).integers(0, 256, (8, 6, 32, 32, 3), dtype=np.uint8)
    features = extractor.extract(frames)
    plan = plan_epoch(FeatureSplit(features, np.arange(8) % 2), (0, 1), 4, np.ones(2, np.float32), chosen.augment)
    assert plan.origin is not None
    clips = np.take_along_axis(plan.rows[:, :, None], plan.origin, axis=1).reshape(8, 6)
    seen = extractor.extract(frames[clips, np.arange(6)])
    pasted = features.reshape(48, -1)[plan.table_rows()].transpose(0, 2, 1, 3).reshape(seen.shape)
    np.testing.assert_allclose(pasted, seen, rtol=1e-5, atol=1e-6)
    assert np.abs(seen - features[plan.rows.ravel()]).max() > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_gradients_reach_the_last_blocks_and_nothing_else(tmp_path: Path, precision: str) -> None:
    chosen = recipe(*SMALL_HEAD, f"training.precision={precision}", "fine_tune.learning_rate=0.01")
    trunk = trunk_of(chosen, RANDOM)
    assert trunk is not None
    before = {layer.name: layer.get_weights() for layer in trunk.network.layers}
    trainer = make_trainer(chosen, *splits(trunk), tmp_path, trunk=trunk)
    trainer.fit()
    trained = {layer.name for block in trunk.layers for layer in block}
    assert trained == {"two.conv_a", "two.conv_b"}
    for layer in trunk.network.layers:
        for old, new in zip(before[layer.name], layer.get_weights(), strict=True):
            assert np.array_equal(old, new) == (layer.name not in trained), layer.name

    features = FeatureExtractor(trunk.whole, RANDOM, trunk.spec)
    features.network.set_weights(trunk.network.get_weights())
    random = np.random.default_rng(1).integers(0, 256, (3, 2, 32, 32, 3), dtype=np.uint8)
    whole = predict(trainer.head, features.extract(random))
    split = predict(trainer.model, FeatureExtractor(trunk, RANDOM, trunk.spec).extract(random))
    np.testing.assert_allclose(split, whole, atol=1e-6)


@pytest.mark.slow
def test_bfloat16_on_a_processor_has_the_gradients_of_float32() -> None:
    """With 16 frames, I3D's last convolutions see two steps: bfloat16 gradients of oneDNN are wrong there."""
    chosen = load_recipe(
        "i3d", ["backbone.weights=random", "clip.size=32", "clip.frames=16", "fine_tune.blocks=1", "training.batch=4"]
    )
    trunk = trunk_of(chosen, RANDOM)
    assert trunk is not None
    steps, dim = trunk.feature_shape(16)
    both, tf = BlocksAndHead(chosen.make_head(), trunk, chosen, 4), load_tensorflow()
    weights = [tf.constant(value) for value in both.build((steps, dim)).get_weights()]
    activations = tf.constant(np.random.default_rng(0).random((steps, 4, dim), np.float32))

    def gradients(dtype: str) -> list[npt.NDArray[np.float32]]:
        left = [tf.fill([1 << size], 7.0) for size in range(6, 20) for _ in range(20)]
        del left
        step = both.training_step((steps, dim), dtype)
        with tf.GradientTape() as tape:
            tape.watch(weights)
            drawn = step.of_replica(step.draw(tf.constant([0, 0]), 4, dim), slice(0, 4), 0)
            loss = tf.reduce_sum(step.probabilities(weights, activations, drawn)[:, 1])
        return [gradient.numpy() for gradient in tape.gradient(loss, weights)]

    # Features that go to the head are rounded, which moves gradients by a tenth.
    for found, expected in zip(gradients("bfloat16"), gradients("float32"), strict=True):
        assert np.abs(found - expected).max() <= 0.2 * np.abs(expected).max()


@pytest.mark.slow
def test_a_block_that_waits_stays_as_it_is_and_one_further_back_learns_more_slowly(tmp_path: Path) -> None:
    changes = {}
    for waits in (0, 5):
        chosen = recipe(
            *SMALL_HEAD, "fine_tune.blocks=2", f"fine_tune.unfreeze_epochs={waits}", "fine_tune.layer_decay=0.1"
        )
        trunk = trunk_of(chosen, RANDOM)
        assert trunk is not None
        before = [[layer.get_weights()[0] for layer in block] for block in trunk.layers]
        make_trainer(chosen, *splits(trunk), tmp_path / str(waits), trunk=trunk).fit()
        after = [[layer.get_weights()[0] for layer in block] for block in trunk.layers]
        changes[waits] = [
            max(float(np.abs(new - old).max()) for old, new in zip(*pair, strict=True))
            for pair in zip(before, after, strict=True)
        ]
    assert changes[5][0] == 0 < changes[5][1]
    # Adam's steps are as large as the learning rate, whatever the gradient.
    assert 0.05 < changes[0][0] / changes[0][1] < 0.2


@pytest.mark.slow
@pytest.mark.parametrize("normalization", ["layer", "square_root"])
def test_a_linear_head_begins_as_the_exact_solution(tmp_path: Path, normalization: str) -> None:
    tiny = ("fine_tune.learning_rate=1e-9", "optimizer.learning_rate=1e-9", "training.precision=float32")
    chosen = recipe(
        *tiny, f"head.normalization={normalization}", "optimizer.weight_decay=0", "fine_tune.blocks=1", name="edge"
    )
    assert chosen.solver == "adamw"
    trunk = trunk_of(chosen, RANDOM)
    assert trunk is not None
    train, valid = splits(trunk, 24)
    begun = make_trainer(chosen, train, valid, tmp_path / "fitted", trunk=trunk)
    begun.fit()
    assert begun.history[-1].loss < 0.3
    random = make_trainer(chosen.varied(optimizer={"solver": "adamw"}), train, valid, tmp_path / "random", trunk=trunk)
    random.fit()
    assert random.history[-1].loss > 2 * begun.history[-1].loss


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("fine_tune.blocks=99", "at most 2, the blocks of toy blocks, not 99"),
        ("optimizer.solver=logistic", "solves for a head alone"),
        ("label_noise.action=drop", "none of curriculum, label_noise and distill"),
        ("distill.teacher=runs/one", "none of curriculum, label_noise and distill"),
        ("curriculum.pacing=exponential", "none of curriculum, label_noise and distill"),
    ],
)
def test_bad_recipes_are_one_line(override: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        recipe(override)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("backbone", "overrides", "message"),
    [
        ("efficientnet-lite0", ("fine_tune.blocks=0",), "is for blocks that are trained: set fine_tune.blocks, too"),
        ("efficientnet-lite0", ("fine_tune.blocks=2",), "needs fine_tune.blocks of 3 or more, down to blocks.14"),
        ("efficientnet-lite0", ("fine_tune.blocks=3", "clip.frames=1"), "clip.frames is 1"),
        ("vgg19", (), 'must be "none": VGG19 has no blocks with a residual branch'),
        ("i3d", ("clip.frames=8",), 'must be "none": I3D looks at the frames of a clip together already'),
        ("two-stream", (), "looks at the frames of a clip together already"),
    ],
)
def test_a_temporal_shift_that_would_do_nothing_is_one_line(
    backbone: str, overrides: tuple[str, ...], message: str
) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        recipe("fine_tune.temporal_shift=both", *overrides, backbone=backbone)
    assert "\n" not in str(caught.value)


def test_a_recipe_shifts_the_residual_blocks_that_it_trains() -> None:
    plain = recipe("fine_tune.blocks=5", backbone="efficientnet-lite0")
    shifted = plain.varied(fine_tune={"temporal_shift": "past"})
    expected = {"direction": "past", "blocks": ["blocks.12", "blocks.13", "blocks.14"]}
    assert shifted.fine_tuned_backbone().stage_settings["temporal_shift"] == expected
    # What was trained without a shift goes on under the name that it had.
    assert "temporal_shift" not in plain.identity["fine_tune"]
    assert shifted.identity["fine_tune"]["temporal_shift"] == "past"
    for frozen in (plain.make_backbone(), shifted.make_backbone(), plain.fine_tuned_backbone()):
        assert "temporal_shift" not in frozen.stage_settings


def test_a_backbone_without_blocks_is_refused() -> None:
    with pytest.raises(RecipeError, match="toy colours names no blocks that could be trained"):
        recipe(backbone="toy-colours")


def test_features_of_the_whole_backbone_are_refused(tmp_path: Path) -> None:
    split = FeatureSplit(np.zeros((4, 2, 8), np.float16), np.arange(4) % 2)
    with pytest.raises(RecipeError, match="blocks of a backbone cannot be trained here"):
        make_trainer(recipe(), split, split, tmp_path)
