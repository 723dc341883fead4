"""Networks of `keras.applications` as backbones, frame by frame."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from vdeploy.core.errors import WeightsError
from vdeploy.core.lazy_imports import load_keras
from vdeploy.models.base import Backbone, BackboneSettings
from vdeploy.models.weights.find import Weights
from vdeploy.models.weights.published import WeightsFile

if TYPE_CHECKING:
    import keras

    from vdeploy.video.clips import ClipSpec

__all__ = ["KerasApplication"]

_PICTURES, _CELLS = 16, 8
"""Pictures, and cells along each side, that random weights are normalised with."""


class KerasApplication(Backbone[BackboneSettings]):
    """A network of `keras.applications` up to the average over all positions; scaling is inside the graph.

    Attributes:
        function: Name of the function in `keras.applications`.
        features: Features of a frame, F.
        scaling: Scale and offset of pixels from 0 to 255, of each channel or of all. Keras' own layer for it has
            constants that tf2onnx takes for inputs.
        weights_file: The file that Keras publishes for the network without its classifier.
    """

    function: ClassVar[str]
    features: ClassVar[int]
    scaling: ClassVar[tuple[Any, Any]]
    weights_file: ClassVar[WeightsFile]

    def feature_shape(self, frames: int) -> tuple[int, int]:
        """Return (T, F)."""
        return frames, self.features

    @property
    def published_weights(self) -> Mapping[str, WeightsFile]:
        """The weights that were trained on ImageNet."""
        return {"imagenet": self.weights_file}

    def build(self, spec: ClipSpec, weights: Weights) -> keras.Model:
        """Build the network; see `Backbone.build`."""
        keras: Any = load_keras()
        pixels = keras.Input((spec.size, spec.size, 3), name="pixels", dtype="float32")
        path = None if weights.path is None else str(weights.path)
        scaled = keras.layers.Rescaling(*self.scaling, name="scaled")(pixels)
        arguments = {"include_top": False, "pooling": "avg", "input_tensor": scaled, "include_preprocessing": False}
        try:
            with warnings.catch_warnings():
                # Keras only warns when it leaves layers as they were because a file lacks them.
                warnings.simplefilter("error", UserWarning)
                network = getattr(keras.applications, self.function)(weights=path, **arguments)
        except (ValueError, OSError, KeyError, UserWarning) as error:
            raise WeightsError(
                f"{path} holds no weights for {self.title} ({str(error).splitlines()[0]})",
                f"give a file like {self.weights_file.name}",
            ) from error
        model = keras.Model(pixels, network.output, name=self.name)
        if path is None:
            _normalize(model, spec.size)
        return model


def _normalize(network: Any, size: int) -> None:
    """Give the batch normalisation of random weights the statistics of coloured cells; else features vanish."""
    layers = [layer for layer in network.layers if hasattr(layer, "moving_variance")]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 0.0
    cells = np.random.default_rng(0).uniform(0, 255, (_PICTURES, _CELLS, _CELLS, 3)).astype(np.float32)
    width = -(-size // _CELLS)
    network(cells.repeat(width, axis=1).repeat(width, axis=2)[:, :size, :size], training=True)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
