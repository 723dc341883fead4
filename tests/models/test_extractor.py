"""VGG19 as a graph equals VGG19 as Keras documents it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from testing.models import vgg19_extractor
from vdeploy.core.errors import WeightsError
from vdeploy.core.lazy_imports import load_keras
from vdeploy.models.backbones.vgg19.feature_layers import DIMENSIONS
from vdeploy.models.backbones.vgg19.weights import find_weights
from vdeploy.models.weights.find import Weights

RANDOM = Weights("random", None, "0" * 64)


def frames(clips: int, count: int, size: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (clips, count, size, size, 3), np.uint8)


def keras_features(network: object, pixels: np.ndarray) -> np.ndarray:
    """The documented way: BGR, mean subtracted, the kernel of the first convolution as it was published."""
    keras = load_keras()
    original = keras.models.clone_model(network)
    original.set_weights(network.get_weights())
    first = original.get_layer("block1_conv1")
    kernel, bias = first.get_weights()
    first.set_weights([kernel[:, :, ::-1, :], bias])
    behind_the_mean = keras.Model(original.get_layer("centred").output, original.output)
    prepared = keras.applications.vgg19.preprocess_input(pixels.astype(np.float32))
    return behind_the_mean(prepared, training=False).numpy()


def test_colour_order_and_mean_are_inside_the_graph() -> None:
    extractor = vgg19_extractor("avg", RANDOM, size=32)
    pixels = frames(2, 3, 32)
    expected = keras_features(extractor.network, pixels.reshape(-1, 32, 32, 3)).reshape(2, 3, 512)
    actual = extractor.extract(pixels)
    assert actual.shape == (2, 3, DIMENSIONS["avg"])
    np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())
    swapped = extractor.extract(np.ascontiguousarray(pixels[..., ::-1]))
    assert np.abs(swapped - expected).max() > 1e-3 * np.abs(expected).max()


@pytest.mark.slow
def test_random_weights_are_the_same_every_time() -> None:
    pixels = frames(1, 2, 32)
    one, two = (vgg19_extractor("avg", RANDOM, size=32, seed=3).extract(pixels) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    assert np.abs(vgg19_extractor("avg", RANDOM, size=32, seed=4).extract(pixels) - one).max() > 0


def test_the_weights_are_those_that_keras_documents() -> None:
    """Keras documents 143,667,240 with the last layer, 1000 classes; the fully connected layers are the rest."""
    fully_connected = (7 * 7 * 512 + 1) * 4096 + (4096 + 1) * 4096 + (4096 + 1) * 1000
    assert vgg19_extractor("avg", RANDOM, size=32).network.count_params() == 143_667_240 - fully_connected


def test_fc2_wants_224_pixels() -> None:
    with pytest.raises(WeightsError, match="224"):
        vgg19_extractor("fc2", RANDOM, size=64)


def test_a_file_without_vgg19_is_refused(tmp_path: Path) -> None:
    keras = load_keras()
    file = tmp_path / "other.weights.h5"
    inputs = keras.Input((4,))
    keras.Model(inputs, keras.layers.Dense(3)(inputs)).save_weights(file)
    with pytest.raises(WeightsError, match="holds no VGG19 weights"):
        vgg19_extractor("avg", Weights(str(file), file, "0" * 64), size=32)


@pytest.mark.slow
def test_imagenet_features_of_a_real_network() -> None:
    weights = find_weights("imagenet", "avg")
    extractor = vgg19_extractor("avg", weights)
    pixels = frames(1, 2, 224)
    reference = load_keras().applications.VGG19(
        include_top=False, weights=str(weights.path), pooling="avg", input_shape=(224, 224, 3)
    )
    prepared = load_keras().applications.vgg19.preprocess_input(pixels[0].astype(np.float32))
    expected = reference(prepared, training=False).numpy()
    np.testing.assert_allclose(extractor.extract(pixels)[0], expected, rtol=1e-3, atol=1e-4 * expected.max())
