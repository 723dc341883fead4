"""A backbone that shows another one several views of a clip, all computed inside the graph from the same frames."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from vdeploy.core.lazy_imports import load_keras
from vdeploy.models.base import Backbone, Granularity
from vdeploy.models.splitting import Split
from vdeploy.models.weights.find import Weights
from vdeploy.models.weights.published import WeightsFile

if TYPE_CHECKING:
    import keras

    from vdeploy.models.base import BackboneSettings
    from vdeploy.video.clips import ClipSpec

__all__ = ["MultiViewBackbone"]


class MultiViewBackbone(Backbone[Any]):
    """Runs another backbone on views of a clip, and puts their features side by side for the same step in time.

    Files, windows of timelines, live sources and the clips of a calibration are thereby seen alike by every exported
    format and by every server. All views go through one network with the same weights. A view depends on all frames of
    a clip, so the granularity is ``"clip"`` whatever that of the other backbone is: windows are scored whole.

    Args:
        inner: The other backbone.
        settings: The settings of both together.

    Attributes:
        inner: The other backbone.
        views: How many views there are, V.
    """

    granularity: ClassVar[Granularity] = "clip"
    views: int

    def __init__(self, inner: Backbone[Any], settings: BackboneSettings) -> None:
        super().__init__(settings)
        self.inner = inner

    @abc.abstractmethod
    def see(self, pixels: Any) -> list[Any]:
        """Compute the views.

        Args:
            pixels: ``float32[B, T, S, S, 3]``, RGB, 0 to 255.

        Returns:
            V times ``float32[B, T, R, R, 3]`` with R of `seen_spec`, in the order of their features.
        """

    def seen_spec(self, spec: ClipSpec) -> ClipSpec:
        """Return the clips that the other backbone gets.

        Args:
            spec: The clips that this one gets.
        """
        return spec

    def feature_shape(self, frames: int) -> tuple[int, int]:
        """Return (t, V * F)."""
        steps, dim = self.inner.feature_shape(frames)
        return steps, self.views * dim

    @property
    def published_weights(self) -> Mapping[str, WeightsFile]:
        """Those of the other backbone."""
        return self.inner.published_weights

    def find_weights(self, source: str | None = None) -> Weights:
        """Find the weights of the other backbone; see `Backbone.find_weights`."""
        return self.inner.find_weights(source or self.settings.weights)

    def check(self, spec: ClipSpec) -> None:
        """Refuse clips that the other backbone cannot take."""
        self.inner.check(self.seen_spec(spec))

    @property
    def blocks(self) -> tuple[str, ...]:
        """The blocks of the other backbone."""
        return self.inner.blocks

    def build(self, spec: ClipSpec, weights: Weights) -> keras.Model:
        """Build the network with the views before it; see `Backbone.build`."""
        return self.around(self.inner.load(self.seen_spec(spec), weights), spec)

    def around(self, network: keras.Model, spec: ClipSpec) -> keras.Model:
        """Return the network for clips around one of the other backbone.

        Args:
            network: See `Backbone.build`.
            spec: The clips that it will see.
        """
        keras: Any = load_keras()
        pixels = keras.Input((spec.frames, spec.size, spec.size, 3), name="clips", dtype="float32")
        model = keras.Model(pixels, self._joined(network(self._seen(pixels)), spec), name=self.model_name)
        model.trainable = False
        return model

    def load(self, spec: ClipSpec, weights: Weights) -> keras.Model:
        """Build the network; see `Backbone.load`."""
        return self.build(spec, weights)

    def split(self, spec: ClipSpec, weights: Weights, count: int) -> Split:
        """Build the network in two parts, the views in the first one; see `Backbone.split`."""
        return self.around_parts(self.inner.split(self.seen_spec(spec), weights, count), spec)

    def around_parts(self, parts: Split, spec: ClipSpec) -> Split:
        """Return the parts for clips around those of the other backbone.

        Args:
            parts: What `Backbone.split` returned.
            spec: The clips that it will see.
        """
        keras: Any = load_keras()
        clip = self.inner.granularity == "clip"
        steps, dim = parts.trunk.output_shape[1] if clip else spec.frames, parts.trunk.output_shape[-1]
        pixels = keras.Input((spec.frames, spec.size, spec.size, 3), name="clips", dtype="float32")
        activations = keras.ops.reshape(parts.trunk(self._seen(pixels)), (-1, self.views * steps, dim))
        given = keras.Input((self.views * steps, dim), name="activations")
        features = parts.tail(keras.ops.reshape(given, (-1, *((steps,) if clip else ()), dim)))
        tail = keras.Model(given, self._joined(features, spec))
        return Split(parts.network, keras.Model(pixels, activations), tail)

    def _seen(self, pixels: Any) -> Any:
        """What the other backbone gets of clips ``[B, T, S, S, 3]``, every view as if it were a clip."""
        ops: Any = load_keras().ops
        views = self.see(pixels)
        frames, size = views[0].shape[1:3]
        seen = views[0] if len(views) == 1 else ops.concatenate(views, axis=1)
        clip = (frames,) if self.inner.granularity == "clip" else ()
        return ops.reshape(seen, (-1, *clip, size, size, 3))

    def _joined(self, features: Any, spec: ClipSpec) -> Any:
        """The features of all views of a clip side by side, ``[B, t, V * F]``."""
        ops: Any = load_keras().ops
        steps, dim = self.inner.feature_shape(spec.frames)
        features = ops.transpose(ops.reshape(features, (-1, self.views, steps, dim)), (0, 2, 1, 3))
        return ops.reshape(features, (-1, steps, self.views * dim))
