"""Each layer of VGG19: what Keras' own models give, and the same again in ONNX."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from testing.models import vgg19_extractor
from vdeploy.core.lazy_imports import load_keras
from vdeploy.export.onnx.convert import extractor_to_onnx
from vdeploy.export.onnx.flops import count_flops
from vdeploy.models.backbones.vgg19.feature_layers import DIMENSIONS, POOLED_BLOCKS, Layer
from vdeploy.models.backbones.vgg19.weights import FILES, find_weights
from vdeploy.models.weights.find import Weights

RANDOM = Weights("random", None, "0" * 64)
OF_BLOCKS = sorted(POOLED_BLOCKS)


def frames(clips: int, count: int, size: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (clips, count, size, size, 3), np.uint8)


def test_every_layer_has_a_size_and_a_file_of_weights() -> None:
    assert set(get_args(Layer)) == set(DIMENSIONS) == set(FILES)
    assert set(POOLED_BLOCKS) == set(DIMENSIONS) - {"fc2"}
    assert all(DIMENSIONS[layer] == 512 * len(blocks) for layer, blocks in POOLED_BLOCKS.items())


@pytest.mark.slow
@pytest.mark.parametrize("size", [32, 70])
def test_averages_are_those_of_the_pooled_maps(size: int) -> None:
    pixels = frames(2, 2, size)
    extractor = vgg19_extractor("avg45", RANDOM, size=size)
    keras = load_keras()
    network = extractor.network
    maps = keras.Model(
        network.get_layer("centred").output,
        [network.get_layer(f"{block}_pool").output for block in ("block4", "block5")],
    )
    centred = pixels.reshape(-1, size, size, 3).astype(np.float32) - np.array((123.68, 116.779, 103.939), np.float32)
    pooled = [values.numpy().mean(axis=(1, 2)) for values in maps(centred, training=False)]
    actual = extractor.extract(pixels)
    assert actual.shape == (2, 2, DIMENSIONS["avg45"])
    expected = np.concatenate([pooled[0] / 32, pooled[1]], axis=1).reshape(actual.shape)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5 * expected.max())


def test_the_second_half_of_avg45_is_avg() -> None:
    pixels = frames(1, 3, 32)
    both, last = (vgg19_extractor(layer, RANDOM, size=32, seed=1).extract(pixels) for layer in ("avg45", "avg"))
    np.testing.assert_allclose(both[..., 512:], last, rtol=1e-4, atol=1e-6 * np.abs(last).max())


def test_averaging_another_block_costs_no_further_convolution() -> None:
    one, two = (
        count_flops(extractor_to_onnx(vgg19_extractor(layer, RANDOM, size=32)), {"frames": (1, 1, 32, 32, 3)})
        for layer in ("avg", "avg45")
    )
    assert one == two


@pytest.mark.slow
@pytest.mark.parametrize(("layer", "size"), list(zip(OF_BLOCKS, (32, 70), strict=True)))
def test_onnx_gives_the_same_features(layer: Layer, size: int) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    extractor = vgg19_extractor(layer, RANDOM, size=size)
    session = onnxruntime.InferenceSession(extractor_to_onnx(extractor).SerializeToString())
    (output,) = session.get_outputs()
    assert (output.name, output.shape) == ("features", ["batch", "time", DIMENSIONS[layer]])
    for clips, count in ((1, 1), (2, 3)):
        pixels = frames(clips, count, size)
        expected = extractor.extract(pixels)
        (actual,) = session.run(None, {"frames": pixels})
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_onnx_of_avg45_reaches_into_the_network_and_repeats_no_convolution() -> None:
    pytest.importorskip("onnx")
    nodes = extractor_to_onnx(vgg19_extractor("avg45", RANDOM, size=32)).graph.node
    assert [node.op_type for node in nodes].count("Conv") == 16
    (concat,) = (node for node in nodes if node.op_type == "Concat" and node.name == "averages")
    assert list(concat.input) == ["block4_scaled", "block5_average/flat"]


@pytest.mark.slow
def test_imagenet_weights_fit_every_layer_of_the_convolutions() -> None:
    pixels = frames(1, 2, 224)
    both, last = (vgg19_extractor(layer, find_weights("imagenet", layer)).extract(pixels) for layer in ("avg45", "avg"))
    np.testing.assert_allclose(both[..., 512:], last, rtol=1e-4, atol=1e-5 * last.max())
