"""VGG19 as one graph from RGB bytes to features: colour order, mean subtraction and layout are inside it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from vdeploy.core.errors import WeightsError
from vdeploy.core.lazy_imports import load_keras, load_tensorflow
from vdeploy.models.backbones.vgg19.feature_layers import BLOCK_SCALES, DIMENSIONS, POOLED_BLOCKS, Layer
from vdeploy.models.weights import Weights

if TYPE_CHECKING:
    import numpy.typing as npt
    import tensorflow as tf

__all__ = ["DIMENSIONS", "FeatureExtractor", "Layer"]

IMAGENET_MEAN_RGB = (123.68, 116.779, 103.939)
"""Mean of the ImageNet training images per channel, as VGG was trained with (Simonyan and Zisserman 2015, sec. 2.1)."""


class FeatureExtractor:
    """VGG19 up to a layer, with weights, ready to run.

    The weights expect BGR with the ImageNet mean subtracted. Frames come in as RGB, so the mean is subtracted in RGB
    order and the first convolution's kernel is turned round once instead of every frame.

    Args:
        layer: ``"avg"``: the global average of the last pooled feature maps, F = 512;
            ``"avg45"``: the global averages of the last two blocks' pooled feature maps, alike in scale, F = 1024;
            ``"fc2"``: the second fully connected layer, F = 4096.
        weights: Where the weights come from.
        size: Height and width of a frame in pixels.
        seed: Seed of random weights.

    Raises:
        WeightsError: The weights do not fit the layer.
    """

    def __init__(self, layer: Layer, weights: Weights, *, size: int = 224, seed: int = 0) -> None:
        if layer not in get_args(Layer):
            raise ValueError(f"layer must be one of {get_args(Layer)}, not {layer!r}")
        self.layer: Layer = layer
        self.size = size
        self.weights = weights
        self.tf = load_tensorflow()
        keras = load_keras()
        keras.utils.set_random_seed(seed)
        self.network = _network(keras, layer, weights, size)
        self._compiled = self.tf.function(
            self.call, input_signature=[self.tf.TensorSpec([None, None, size, size, 3], self.tf.uint8)]
        )

    @property
    def batch_clips(self) -> int:
        """Clips to extract at once: one keeps a CPU's caches warm, a GPU wants more work a call."""
        return 8 if self.tf.config.list_physical_devices("GPU") else 1

    @property
    def dim(self) -> int:
        """Features per frame, F."""
        return DIMENSIONS[self.layer]

    def call(self, frames: tf.Tensor) -> tf.Tensor:
        """The graph: ``frames uint8[B, T, H, W, 3]`` (RGB) to ``features float32[B, T, F]``."""
        tf = self.tf
        batch, time = tf.shape(frames)[0], tf.shape(frames)[1]
        flat = tf.reshape(frames, [-1, self.size, self.size, 3])
        features = self.network(tf.cast(flat, tf.float32) - tf.constant(IMAGENET_MEAN_RGB, tf.float32), training=False)
        return tf.reshape(features, [batch, time, self.dim])

    def extract(self, frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Runs the graph.

        Args:
            frames: ``uint8[B, T, H, W, 3]``, RGB.

        Returns:
            ``float32[B, T, F]``.
        """
        result: npt.NDArray[np.float32] = self._compiled(self.tf.constant(frames)).numpy()
        return result


def _network(keras: ModuleType, layer: Layer, weights: Weights, size: int) -> Any:
    """VGG19 that takes RGB with the mean subtracted, ``float32[N, H, W, 3]``, and gives ``float32[N, F]``."""
    vgg19, blocks = keras.applications.VGG19, POOLED_BLOCKS.get(layer)
    if not blocks and size != 224:
        raise WeightsError(f"the {layer} layer of VGG19 needs frames of 224 pixels, not {size}", "use --features avg")
    path = str(weights.path) if weights.path else None
    try:
        with warnings.catch_warnings():
            # Keras only warns when it leaves layers as they were because a file lacks them.
            warnings.simplefilter("error", UserWarning)
            base = vgg19(include_top=not blocks, weights=path, input_shape=(size, size, 3))
    except (ValueError, OSError, KeyError, UserWarning) as error:
        raise WeightsError(
            f"{path} holds no VGG19 weights for --features {layer} ({error})",
            "fc2 takes the file with the fully connected layers, the other layers the file without",
        ) from error
    model = keras.Model(base.input, _averages(keras, base, blocks) if blocks else base.get_layer(layer).output)
    first = model.get_layer("block1_conv1")
    kernel, bias = first.get_weights()
    first.set_weights([kernel[:, :, ::-1, :], bias])
    model.trainable = False
    return model


def _averages(keras: ModuleType, base: Any, blocks: Sequence[str]) -> Any:
    """The averages over all positions of blocks' pooled feature maps, alike in scale, one after the other."""
    layers = keras.layers
    averages = []
    for block in blocks:
        average = layers.GlobalAveragePooling2D(name=f"{block}_average")(base.get_layer(f"{block}_pool").output)
        if block in BLOCK_SCALES:
            average = layers.Rescaling(BLOCK_SCALES[block], name=f"{block}_scaled")(average)
        averages.append(average)
    return averages[0] if len(blocks) == 1 else layers.Concatenate(name="averages")(averages)
