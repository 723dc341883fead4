"""VGG19 as one graph from RGB bytes to features: colour order, mean subtraction and layout are inside it."""

from __future__ import annotations

import warnings
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from training.errors import WeightsError
from training.frameworks import load_keras, load_tensorflow
from training.weights import Weights

if TYPE_CHECKING:
    import numpy.typing as npt
    import tensorflow as tf

__all__ = ["DIMENSIONS", "FeatureExtractor", "Layer", "flops_per_frame"]

Layer = Literal["avg", "fc2"]

DIMENSIONS: dict[Layer, int] = {"avg": 512, "fc2": 4096}
"""Features per frame, F, of each layer."""

IMAGENET_MEAN_RGB = (123.68, 116.779, 103.939)
"""Mean of the ImageNet training images per channel, as VGG was trained with (Simonyan and Zisserman 2015, sec. 2.1)."""

_CONVOLUTIONS = ((2, 64), (2, 128), (4, 256), (4, 512), (4, 512))


def flops_per_frame(layer: Layer, size: int = 224) -> int:
    """Floating-point operations of VGG19 for one frame, a multiply-add counted as two.

    Args:
        layer: Which layer the features come from.
        size: Height and width of the frame in pixels.

    Returns:
        39.0e9 for ``avg`` at 224 pixels.
    """
    total, side, channels = 0, size, 3
    for count, width in _CONVOLUTIONS:
        for _ in range(count):
            total += 2 * side * side * 9 * channels * width
            channels = width
        side //= 2
    if layer == "fc2":
        total += 2 * (side * side * channels * 4096 + 4096 * 4096)
    return total


class FeatureExtractor:
    """VGG19 up to a layer, with weights, ready to run.

    The weights expect BGR with the ImageNet mean subtracted. Frames come in as RGB, so the mean is subtracted in RGB
    order and the first convolution's kernel is turned round once instead of every frame.

    Args:
        layer: ``"avg"``: the global average of the last pooled feature maps, F = 512;
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
    include_top = layer == "fc2"
    if include_top and size != 224:
        raise WeightsError(f"the fc2 layer of VGG19 needs frames of 224 pixels, not {size}", "use --features avg")
    vgg19 = keras.applications.VGG19
    path = str(weights.path) if weights.path else None
    try:
        with warnings.catch_warnings():
            # Keras only warns when it leaves layers as they were because a file lacks them.
            warnings.simplefilter("error", UserWarning)
            if include_top:
                full = vgg19(include_top=True, weights=path)
                model = keras.Model(full.input, full.get_layer("fc2").output)
            else:
                model = vgg19(include_top=False, weights=path, pooling="avg", input_shape=(size, size, 3))
    except (ValueError, OSError, KeyError, UserWarning) as error:
        raise WeightsError(
            f"{path} holds no VGG19 weights for --features {layer} ({error})",
            "avg takes the file without, fc2 the file with the fully connected layers",
        ) from error
    first = model.get_layer("block1_conv1")
    kernel, bias = first.get_weights()
    first.set_weights([kernel[:, :, ::-1, :], bias])
    model.trainable = False
    return model
