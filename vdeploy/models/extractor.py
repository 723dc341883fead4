"""A backbone with its weights, ready to run: one graph from RGB bytes to features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from vdeploy.core.lazy_imports import load_keras, load_tensorflow
from vdeploy.models.base import Backbone, Granularity
from vdeploy.models.shift_settings import past_frames
from vdeploy.models.weights.find import Weights

if TYPE_CHECKING:
    import keras
    import numpy.typing as npt
    import tensorflow as tf

    from vdeploy.video.clips import ClipSpec

__all__ = ["FeatureExtractor"]


class FeatureExtractor:
    """Runs a backbone in TensorFlow.

    Args:
        backbone: The backbone.
        weights: Its weights.
        spec: The clips that it will see.
        seed: Seed of random weights.

    Attributes:
        network: The backbone's Keras model; see `Backbone.load`.
        causal: Nothing: it computes clips, not streams.

    Raises:
        WeightsError: The weights do not fit the backbone.
        RecipeError: The backbone cannot take such clips.
    """

    causal: ClassVar[None] = None

    def __init__(self, backbone: Backbone[Any], weights: Weights, spec: ClipSpec, *, seed: int = 0) -> None:
        backbone.check(spec)
        self.backbone, self.weights, self.spec = backbone, weights, spec
        self.tf = load_tensorflow()
        load_keras().utils.set_random_seed(seed)
        self.network: keras.Model = backbone.load(spec, weights)
        self.network.trainable = False
        time = None if backbone.granularity == "frame" else spec.frames
        self._compiled = self.tf.function(
            self.call, input_signature=[self.tf.TensorSpec([None, time, spec.size, spec.size, 3], self.tf.uint8)]
        )

    @property
    def granularity(self) -> Granularity:
        """What the backbone looks at as one: a frame, or a clip."""
        return self.backbone.granularity

    @property
    def past_frames(self) -> int | None:
        """How many frames before a frame its features depend on; see `vdeploy.models.shift_settings.past_frames`."""
        return past_frames(self.backbone.granularity, self.backbone.stage_settings, self.spec.frames)

    @property
    def batch_clips(self) -> int:
        """Clips to extract at once: one keeps a CPU's caches warm, a GPU wants more work a call."""
        return 8 if self.tf.config.list_physical_devices("GPU") else 1

    @property
    def size(self) -> int:
        """Height and width of a frame in pixels."""
        return self.spec.size

    @property
    def frames(self) -> int | None:
        """Frames of a clip, T, where the backbone looks at whole clips; ``None`` where it takes any number."""
        return None if self.backbone.granularity == "frame" else self.spec.frames

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of a clip's features, (t, F)."""
        return self.backbone.feature_shape(self.spec.frames)

    @property
    def dim(self) -> int:
        """Features of a frame or of a step in time, F."""
        return self.shape[1]

    def call(self, frames: tf.Tensor) -> tf.Tensor:
        """The graph: ``frames uint8[B, T, H, W, 3]`` (RGB) to ``features float32[B, t, F]``."""
        tf = self.tf
        pixels = tf.cast(frames, tf.float32)
        if self.backbone.granularity == "clip":
            return self.network(pixels, training=False)
        batch, time = tf.shape(frames)[0], tf.shape(frames)[1]
        features = self.network(tf.reshape(pixels, [-1, self.size, self.size, 3]), training=False)
        return tf.reshape(features, [batch, time, self.dim])

    def extract(self, frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Run the graph.

        Args:
            frames: ``uint8[B, T, H, W, 3]``, RGB.

        Returns:
            ``float32[B, t, F]``.
        """
        result: npt.NDArray[np.float32] = self._compiled(self.tf.constant(frames)).numpy()
        return result
