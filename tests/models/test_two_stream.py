"""Two streams: the frames and their differences, through one trunk."""

from __future__ import annotations

import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from training.recipe import load_recipe, recipe_toml
from vdeploy.core.errors import RecipeError
from vdeploy.core.lazy_imports import load_tensorflow
from vdeploy.export.lowering.choose import extractor_onnx
from vdeploy.export.onnx.flops import count_flops
from vdeploy.models.backbones.two_stream import STILL, differences
from vdeploy.models.extractor import FeatureExtractor
from vdeploy.models.registry import backbone_of
from vdeploy.models.trunk import Trunk
from vdeploy.models.weights.find import Weights
from vdeploy.video.clips import ClipSpec

RANDOM = Weights("random", None, "0" * 64)


def noise(frames: int = 4, size: int = 32) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, frames, size, size, 3), np.uint8)


def by_numpy(clips: np.ndarray) -> np.ndarray:
    change = np.diff(clips.astype(np.float32), axis=1)
    return np.clip(np.concatenate([change[:, :1], change], axis=1) + STILL, 0, 255)


def test_differences_are_those_of_consecutive_frames() -> None:
    clips = noise()
    found = differences(load_tensorflow().constant(clips.astype(np.float32))).numpy()
    np.testing.assert_array_equal(found, by_numpy(clips))
    np.testing.assert_array_equal(found[:, 0], found[:, 1])
    assert (found.min(), found.max()) == (0, 255)


def test_where_nothing_moves_the_motion_stream_sees_nothing() -> None:
    still = noise()[:, :1].repeat(4, axis=1)
    found = differences(load_tensorflow().constant(still.astype(np.float32))).numpy()
    np.testing.assert_array_equal(found, np.full(still.shape, STILL))
    moving = still.copy()
    moving[0, 2:, :8] //= 2
    extractor = FeatureExtractor(two_stream("efficientnet-lite0"), RANDOM, ClipSpec(frames=4, size=32))
    before, after = (extractor.extract(clips)[:, :, 1280:] for clips in (still, moving))
    np.testing.assert_array_equal(before[0], before[1])
    changed = np.abs(after - before).max(axis=2) > 1e-3
    np.testing.assert_array_equal(changed, [[False, False, True, False], [False] * 4])


def two_stream(trunk: Any) -> Any:
    return backbone_of({"name": "two-stream", "trunk": trunk, "weights": "random"})


@pytest.mark.slow
@pytest.mark.parametrize(
    "trunk", ["efficientnet-lite0", {"name": "vgg19", "layer": "avg45"}, {"name": "i3d"}], ids=["lite0", "vgg19", "i3d"]
)
def test_features_are_those_of_the_trunk_for_frames_and_differences(trunk: Any) -> None:
    spec = ClipSpec(frames=8, size=32)
    clips = noise(spec.frames)
    streams = FeatureExtractor(two_stream(trunk), RANDOM, spec)
    inner = streams.backbone.inner
    alone = FeatureExtractor(inner, RANDOM, spec).network  # the same seed, so the same random weights

    def features(pixels: np.ndarray) -> np.ndarray:
        given = pixels.reshape(-1, *pixels.shape[2:]) if inner.granularity == "frame" else pixels
        return alone(given.astype(np.float32), training=False).numpy().reshape(2, *inner.feature_shape(spec.frames))

    expected = np.concatenate([features(clips), features(by_numpy(clips))], axis=2)
    found = streams.extract(clips)
    assert found.shape[1:] == streams.shape == expected.shape[1:]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


@pytest.mark.slow
def test_both_streams_look_at_both_regions() -> None:
    spec = ClipSpec(frames=4, size=64)
    backbone = backbone_of({"name": "two-stream", "weights": "random"}, "both")
    found = FeatureExtractor(backbone, RANDOM, spec).extract(noise(size=64))
    whole = FeatureExtractor(two_stream("efficientnet-lite0"), RANDOM, spec).extract(noise(size=64))
    assert found.shape == (2, 4, 4 * 1280)
    np.testing.assert_allclose(found[:, :, :2560], whole, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_blocks_that_are_fine_tuned_are_those_of_the_trunk() -> None:
    spec = ClipSpec(frames=4, size=32)
    backbone = two_stream("efficientnet-lite0")
    trunk = Trunk(backbone, 2, spec, RANDOM)
    activations = FeatureExtractor(trunk, RANDOM, spec).extract(noise())
    expected = FeatureExtractor(backbone, RANDOM, spec).extract(noise())
    np.testing.assert_array_equal(trunk.tail(activations).numpy(), expected)
    assert trunk.blocks == backbone.inner.blocks[-2:]


def test_a_recipe_and_a_manifest_lead_back() -> None:
    recipe = load_recipe("two-stream", ["backbone.trunk={name='vgg19', layer='avg45'}"])
    backbone = recipe.make_backbone()
    assert backbone.cache_key == "two-stream trunk=vgg19 avg45"
    assert backbone.stage_settings == {"weights": "imagenet", "trunk": {"name": "vgg19", "layer": "avg45"}}
    again = backbone_of({"name": backbone.name, **backbone.stage_settings})
    assert (again.cache_key, again.model_name) == (backbone.cache_key, "two_stream_features")
    assert recipe.varied(clip={"frames": 8}).backbone == recipe.backbone
    assert '[backbone.trunk]\nname = "vgg19"\nlayer = "avg45"\n' in recipe_toml(recipe)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("backbone.trunk=vgg91", "no backbone 'vgg91', did you mean 'vgg19'?"),
        ("backbone.trunk=two-stream", "backbone.trunk is a two-stream network itself; name the backbone"),
        ("backbone.trunk=3", "backbone.trunk names no backbone, got 3; for example trunk ="),
        ("backbone.trunk={layer='avg'}", "backbone.trunk names no backbone"),
        ("backbone.trunk={name='vgg19', layr='avg'}", "unknown key backbone.trunk.layr, did you mean 'layer'?"),
        ("backbone.trunk={name='vgg19', layer='top'}", "backbone.trunk.layer: Input should be 'avg'"),
        ("backbone.trunk={name='vgg19', weights='random'}", "unknown key backbone.trunk.weights; set backbone.weights"),
        ("clip.frames=1", "a two-stream network takes at least 2 frames, not 1; set clip.frames"),
        ("fine_tune.blocks=99", "at most 17, the blocks of two-stream network, not 99"),
    ],
)
def test_bad_settings_are_one_line(assignment: str, message: str) -> None:
    with pytest.raises(RecipeError) as raised:
        load_recipe("two-stream", [assignment]).make_backbone()
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_every_command_of_the_page_names_the_usual_weights_of_its_trunk() -> None:
    page = Path(__file__).parents[2] / "docs" / "models" / "two-stream.md"
    commands = [shlex.split(line) for line in page.read_text().splitlines() if line.startswith("vdeploy train")]
    sets = [[value for flag, value in pairwise(words) if flag == "--set"] for words in commands]
    trunks = []
    for overrides in sets:
        backbone = load_recipe("two-stream", overrides).make_backbone()
        assert backbone.settings.weights == type(backbone.settings.trunk)().weights
        trunks.append(backbone.settings.trunk.name)
    assert set(trunks) == {"efficientnet-lite0", "vgg19", "i3d"}


@pytest.mark.slow
def test_operations_are_those_of_both_streams() -> None:
    spec, shape = ClipSpec(frames=4, size=32), {"frames": (1, 4, 32, 32, 3)}
    backbones = two_stream("efficientnet-lite0"), backbone_of({"name": "efficientnet-lite0", "weights": "random"})
    both, one = (count_flops(extractor_onnx(FeatureExtractor(backbone, RANDOM, spec)), shape) for backbone in backbones)
    assert both == 2 * one
