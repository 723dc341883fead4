"""VGG19 as plain TensorFlow, written from the Keras weights."""

from __future__ import annotations

from typing import Any

from vdeploy.core.lazy_imports import load_tensorflow
from vdeploy.export.lowering.graphs import ExtractorGraph, variables_of
from vdeploy.models.backbones.vgg19.model import IMAGENET_MEAN_RGB
from vdeploy.models.extractor import FeatureExtractor

__all__ = ["VGG19Graph"]


class VGG19Graph(ExtractorGraph):
    """VGG19 up to the layer that features come from.

    Args:
        extractor: VGG19 with its weights; its first convolution takes RGB.
    """

    def __init__(self, extractor: FeatureExtractor) -> None:
        super().__init__(extractor)
        self._network: Any = extractor.network
        self._weights = {layer.name: variables_of(layer) for layer in extractor.network.layers if layer.weights}
        self.variables = [variable for pair in self._weights.values() for variable in pair]

    def __call__(self, pixels: Any) -> Any:
        """Computes features of frames.

        Args:
            pixels: ``float32[N, H, W, 3]``, RGB, 0 to 255.

        Returns:
            ``float32[N, F]``.
        """
        tf = load_tensorflow()
        # The mean stays a subtraction: folded into the bias it would be wrong at the borders, where padding is zero.
        _, centred, *layers = self._network.layers
        values = {id(centred.output): pixels - tf.constant(IMAGENET_MEAN_RGB, tf.float32)}
        for layer in layers:
            sources = layer.input if isinstance(layer.input, list) else [layer.input]
            values[id(layer.output)] = self._layer(layer, [values[id(source)] for source in sources])
        return values[id(self._network.output)]

    def _layer(self, layer: Any, inputs: list[Any]) -> Any:
        tf, kind, x = load_tensorflow(), type(layer).__name__, inputs[0]
        if layer.name in self._weights:
            kernel, bias = self._weights[layer.name]
            product = tf.nn.conv2d(x, kernel, 1, "SAME") if kind == "Conv2D" else tf.matmul(x, kernel)
            return tf.nn.relu(tf.nn.bias_add(product, bias))
        if kind == "MaxPooling2D":
            return tf.nn.max_pool2d(x, 2, 2, "VALID")
        if kind == "GlobalAveragePooling2D":
            return tf.reduce_mean(x, axis=(1, 2))
        if kind == "Flatten":
            return tf.reshape(x, (-1, x.shape[1] * x.shape[2] * x.shape[3]))
        if kind == "Rescaling":
            return x * layer.scale
        if kind == "Concatenate":
            return tf.concat(inputs, axis=-1)
        raise AssertionError(f"VGG19 has no layer of kind {kind}")
