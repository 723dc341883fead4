"""Trunk and tail of a backbone: together they are the backbone, and the tail holds the last blocks and no more."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vdeploy.core.errors import WeightsError
from vdeploy.core.lazy_imports import load_keras
from vdeploy.features.extraction import feature_key
from vdeploy.models.extractor import FeatureExtractor
from vdeploy.models.registry import backbone_of
from vdeploy.models.splitting import layers_by_block
from vdeploy.models.trunk import Trunk
from vdeploy.models.weights.find import Weights, find_weights
from vdeploy.models.weights.fine_tuned import save_fine_tuned
from vdeploy.video.clips import ClipSpec

pytestmark = pytest.mark.slow

SPEC = ClipSpec(frames=8, size=32)
RANDOM = Weights("random", None, "0" * 64)


def frames(clips: int = 2) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (clips, SPEC.frames, SPEC.size, SPEC.size, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("name", "region", "count", "first"),
    [
        ("i3d", "both", 2, "Mixed_5b"),
        ("vgg19", "full", 1, "block5"),
        pytest.param("efficientnet-lite0", "motion", 3, "blocks.14", marks=pytest.mark.slow),
    ],
)
def test_trunk_and_tail_are_the_whole_backbone(name: str, region: str, count: int, first: str) -> None:
    backbone = backbone_of({"name": name, "weights": "random"}, region)
    expected = FeatureExtractor(backbone, RANDOM, SPEC).extract(frames())
    trunk = Trunk(backbone, count, SPEC, RANDOM)
    activations = FeatureExtractor(trunk, RANDOM, SPEC).extract(frames())
    assert activations.shape == (2, *trunk.feature_shape(SPEC.frames))
    given = activations if trunk.granularity == "clip" else activations.reshape(-1, activations.shape[-1])
    np.testing.assert_array_equal(trunk.tail(given).numpy().reshape(expected.shape), expected)

    assert trunk.blocks[0] == first
    names = {weight.path for block in trunk.layers for layer in block for weight in layer.weights}
    assert {weight.path for weight in trunk.tail.weights} == names
    other = Trunk(backbone, count + 1, SPEC, RANDOM)
    assert len(other.tail.weights) > len(trunk.tail.weights)
    keys = {feature_key(SPEC, part, RANDOM).digest for part in (backbone, trunk, other)}
    assert len(keys) == 3


@pytest.mark.parametrize("name", ["efficientnet-lite0", "efficientnet-lite2", "i3d", "vgg19"])
def test_blocks_hold_all_layers_behind_the_first_one(name: str) -> None:
    backbone = backbone_of({"name": name, "weights": "random"})
    network = backbone.load(SPEC, RANDOM)
    weighted = [layer.name for layer in network.layers if layer.weights]
    of_blocks = [layer.name for layers in layers_by_block(network, backbone.blocks).values() for layer in layers]
    assert of_blocks == weighted[-len(of_blocks) :]
    assert len(weighted) - len(of_blocks) <= 3, "more than a stem lies before the first block"


def test_fine_tuned_weights_come_back_and_others_are_refused_in_one_line(tmp_path: Path) -> None:
    lite = backbone_of({"name": "efficientnet-lite0", "weights": "random"})
    network, file = lite.load(SPEC, RANDOM), tmp_path / "backbone.npz"
    save_fine_tuned(network, file)
    found = find_weights(str(file), {})
    assert found.fine_tuned
    load_keras().utils.set_random_seed(7)
    again = lite.load(SPEC, found)
    for one, other in zip(network.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)

    vgg19 = backbone_of({"name": "vgg19", "weights": str(file)})
    with pytest.raises(WeightsError, match="holds no fine-tuned weights of this backbone"):
        vgg19.load(SPEC, vgg19.find_weights())
    np.savez(file, **{**dict(np.load(file)), "further/0": np.zeros(1)})
    with pytest.raises(WeightsError, match="a further layer further"):
        lite.load(SPEC, found)
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(WeightsError, match="holds no fine-tuned weights"):
        lite.load(SPEC, found)
