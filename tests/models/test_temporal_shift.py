"""The temporal shift: channels move by exactly one frame, only where blocks are trained, and cost no operation."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vdeploy.core.errors import RecipeError, WeightsError
from vdeploy.core.lazy_imports import load_keras
from vdeploy.export.lowering.generic_onnx import extractor_by_tf2onnx
from vdeploy.export.onnx.flops import count_flops, count_parameters
from vdeploy.features.extraction import feature_key
from vdeploy.models.base import Backbone
from vdeploy.models.extractor import FeatureExtractor
from vdeploy.models.registry import backbone_of
from vdeploy.models.splitting import first_layer
from vdeploy.models.temporal_shift import shift_channels
from vdeploy.models.trunk import Trunk
from vdeploy.models.weights.find import Weights
from vdeploy.models.weights.fine_tuned import load_fine_tuned, save_fine_tuned
from vdeploy.video.clips import ClipSpec

SPEC = ClipSpec(frames=8, size=32)
RANDOM = Weights("random", None, "0" * 64)
SHIFTED = ("blocks.13", "blocks.14")
"""Residual blocks of EfficientNet-Lite0; the four last blocks begin with them."""


def lite(direction: str | None = None, region: str = "full") -> Backbone[Any]:
    settings = {"name": "efficientnet-lite0", "weights": "random", "region": region}
    shift = {} if direction is None else {"temporal_shift": {"direction": direction, "blocks": SHIFTED}}
    return backbone_of({**settings, **shift})


def frames(clips: int = 2) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (clips, SPEC.frames, SPEC.size, SPEC.size, 3), dtype=np.uint8)


@pytest.mark.parametrize("direction", ["both", "past"])
def test_an_eighth_of_the_channels_moves_by_one_frame_within_its_clip(direction: str) -> None:
    given = np.random.default_rng(0).normal(size=(3, 5, 2, 3, 20)).astype(np.float32)
    expected = given.copy()
    expected[:, :, :, :, :2] = 0
    for clip, frame in itertools.product(range(3), range(1, 5)):
        expected[clip, frame, ..., :2] = given[clip, frame - 1, ..., :2]
    if direction == "both":
        expected[:, :, :, :, 2:4] = 0
        for clip, frame in itertools.product(range(3), range(4)):
            expected[clip, frame, ..., 2:4] = given[clip, frame + 1, ..., 2:4]
    shifted = np.asarray(shift_channels(given.reshape(15, 2, 3, 20), 5, direction))
    np.testing.assert_array_equal(shifted, expected.reshape(15, 2, 3, 20))


@pytest.mark.slow
@pytest.mark.parametrize(("direction", "changed"), [(None, [4]), ("past", [4, 5, 6]), ("both", [2, 3, 4, 5, 6])])
def test_a_frame_reaches_as_many_neighbours_as_blocks_are_shifted(direction: str | None, changed: list[int]) -> None:
    extractor, clips = FeatureExtractor(lite(direction), RANDOM, SPEC), frames()
    before = extractor.extract(clips)
    clips[1, 4] = 255 - clips[1, 4]
    differs = np.abs(extractor.extract(clips) - before).max(axis=-1) > 0
    assert np.argwhere(differs).tolist() == [[1, frame] for frame in changed]


@pytest.mark.slow
def test_the_order_of_the_frames_changes_what_a_head_sees() -> None:
    plain, shifted = (FeatureExtractor(lite(direction), RANDOM, SPEC) for direction in (None, "both"))
    forwards, backwards = frames(), frames()[:, ::-1]
    np.testing.assert_allclose(plain.extract(backwards), plain.extract(forwards)[:, ::-1], atol=1e-6)
    means = [shifted.extract(clips).mean(axis=1) for clips in (forwards, backwards)]
    assert np.abs(means[0] - means[1]).max() > 0.01 * np.abs(means[0]).max()


@pytest.mark.parametrize("region", ["full", pytest.param("both", marks=pytest.mark.slow)])
def test_the_trunk_before_shifted_blocks_is_that_of_the_backbone(region: str) -> None:
    plain, shifted = lite(None, region), lite("both", region)
    expected = FeatureExtractor(shifted, RANDOM, SPEC).extract(frames())
    trunks = [Trunk(plain, 4, SPEC, RANDOM), Trunk(shifted, 4, SPEC, RANDOM, key=plain.cache_key)]
    activations = [FeatureExtractor(trunk, RANDOM, SPEC).extract(frames()) for trunk in trunks]
    np.testing.assert_array_equal(*activations)
    np.testing.assert_array_equal(trunks[1].tail(activations[1]).numpy(), expected)
    assert feature_key(SPEC, trunks[0], RANDOM) == feature_key(SPEC, trunks[1], RANDOM)
    assert feature_key(SPEC, plain, RANDOM) != feature_key(SPEC, shifted, RANDOM)
    paths = [[weight.path for weight in trunk.tail.weights] for trunk in trunks]
    assert paths[0] == paths[1]


@pytest.mark.slow
def test_a_shift_costs_neither_operations_nor_parameters() -> None:
    counts = []
    for direction in (None, "both"):
        model = extractor_by_tf2onnx(FeatureExtractor(lite(direction), RANDOM, SPEC))
        counts.append((count_flops(model, {"frames": (1, 8, 32, 32, 3)}), count_parameters(model)))
    assert counts[0][0] == counts[1][0] > 0
    assert counts[0][1] == counts[1][1] > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2"])
def test_residual_blocks_add_what_their_first_layer_gets(name: str) -> None:
    backbone = backbone_of({"name": name, "weights": "random"})
    assert set(backbone.residual_blocks) < set(backbone.blocks)
    network = backbone.load(SPEC, RANDOM)
    added = [
        id(given) for layer in network.layers if isinstance(layer, load_keras().layers.Add) for given in layer.input
    ]
    for block in backbone.blocks:
        assert (id(first_layer(network, block).input) in added) == (block in backbone.residual_blocks), block


@pytest.mark.parametrize(
    ("name", "shift", "message"),
    [
        ("efficientnet-lite0", {"direction": "both", "blocks": ["blocks.15"]}, "has no residual block 'blocks.15'"),
        ("vgg19", {"direction": "both", "blocks": ["block5"]}, "VGG19 has no residual block 'block5'"),
        ("efficientnet-lite0", {"direction": "future", "blocks": ["blocks.14"]}, "not as a training writes it"),
        ("efficientnet-lite0", "both", "not as a training writes it"),
    ],
)
def test_a_damaged_manifest_is_one_line(name: str, shift: Any, message: str) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        backbone_of({"name": name, "temporal_shift": shift})
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_weights_that_were_trained_with_a_shift_fit_the_same_shift_alone(tmp_path: Path) -> None:
    file = tmp_path / "backbone.npz"
    kinds: dict[str, Backbone[Any]] = {"none": lite(), "past": lite("past"), "both": lite("both")}
    networks = {name: FeatureExtractor(backbone, RANDOM, SPEC).network for name, backbone in kinds.items()}
    for name, network in networks.items():
        save_fine_tuned(network, file)
        for other, loaded in networks.items():
            if other == name:
                load_fine_tuned(loaded, file)
            else:
                with pytest.raises(WeightsError, match="holds no fine-tuned weights of this backbone"):
                    load_fine_tuned(loaded, file)
