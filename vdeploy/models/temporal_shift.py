"""The temporal shift, by which a network that looks at single frames sees motion without any further arithmetic.

Before the residual branch of a block, an eighth of a frame's channels is taken from the frame before it, and another
eighth from the frame after it; the identity beside the branch is left as it is (Lin, Gan and Han 2019, "TSM: Temporal
Shift Module for Efficient Video Understanding", sec. 3 and 4). Channels that come from beyond the clip are zero.

Blocks that were trained on single frames do not expect these channels: only those that are trained are shifted.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vdeploy.core.errors import RecipeError
from vdeploy.core.lazy_imports import load_keras
from vdeploy.models.base import Backbone
from vdeploy.models.multi_view import MultiViewBackbone
from vdeploy.models.shift_settings import Direction, TemporalShift, valid_shift
from vdeploy.models.splitting import Split, first_layer, split_network
from vdeploy.models.weights.find import Weights
from vdeploy.models.weights.fine_tuned import SHIFT_SUFFIX, load_fine_tuned

if TYPE_CHECKING:
    import keras

    from vdeploy.video.clips import ClipSpec

__all__ = ["SHARE", "TemporalShiftBackbone", "shift_channels", "with_temporal_shift"]

SHARE = 8
"""One of so many channels comes from the frame before, and as many from the frame after (the paper, sec. 5.1)."""


def with_temporal_shift(backbone: Backbone[Any], shift: Mapping[str, Any] | None) -> Backbone[Any]:
    """Return a backbone with channels shifted between its frames; the backbone itself for ``None``.

    Args:
        backbone: The backbone.
        shift: Values of `TemporalShift`.

    Raises:
        RecipeError: The backbone cannot be shifted like that.
    """
    if shift is None:
        return backbone
    valid = valid_shift(shift)
    if foreign := [block for block in valid.blocks if block not in backbone.residual_blocks]:
        raise RecipeError(f"{backbone.title} has no residual block {foreign[0]!r}", "train again")
    return TemporalShiftBackbone(backbone, valid)


class TemporalShiftBackbone(MultiViewBackbone):
    """A backbone for single frames in whose last blocks the frames of a clip exchange channels.

    The features of a frame depend on its neighbours. Where these may come after it, windows are scored whole. Where all
    come before it, a stream goes on from frame to frame, as `vdeploy.models.shift_stream` does.

    Args:
        inner: The backbone.
        shift: What is shifted.
    """

    views = 1

    def __init__(self, inner: Backbone[Any], shift: TemporalShift) -> None:
        super().__init__(inner, inner.settings)
        self.shift = shift
        # What a class declares for other backbones is a matter of each instance here.
        self.name, self.settings_type = inner.name, inner.settings_type  # type: ignore[misc]
        self.title = f"{inner.title} with temporal shift"  # type: ignore[misc]

    @property
    def cache_key(self) -> str:
        """The key of the backbone, and what is shifted."""
        return f"{self.inner.cache_key} temporal_shift={self.shift.direction} {' '.join(self.shift.blocks)}"

    @property
    def stage_settings(self) -> dict[str, Any]:
        """The settings of the backbone, and what is shifted."""
        return {**self.inner.stage_settings, "temporal_shift": self.shift.model_dump(mode="json")}

    @property
    def shift_layers(self) -> tuple[str, ...]:
        """Names of the layers that shift, in their order."""
        return tuple(f"{block}.{self.shift.direction}{SHIFT_SUFFIX}" for block in self.shift.blocks)

    def see(self, pixels: Any) -> list[Any]:
        """Return the frames."""
        return [pixels]

    def build(self, spec: ClipSpec, weights: Weights) -> keras.Model:
        """Build the network; see `Backbone.build`."""
        return self.around(self._shifted(spec, weights), spec)

    def split(self, spec: ClipSpec, weights: Weights, count: int) -> Split:
        """Build the network in two parts; see `Backbone.split`."""
        return self.around_parts(split_network(self._shifted(spec, weights), self.blocks[-count]), spec)

    def _shifted(self, spec: ClipSpec, weights: Weights) -> keras.Model:
        """The network ``pixels float32[B * T, H, W, 3]`` to features; layers with weights have the names they had."""
        tuned = weights.path if weights.fine_tuned else None
        network = self.inner.load(spec, weights if tuned is None else dataclasses.replace(weights, path=None))
        keras = load_keras()
        blocks = zip(self.shift.blocks, self.shift_layers, strict=True)
        starts = {first_layer(network, block).name: name for block, name in blocks}
        shift = functools.partial(shift_channels, frames=spec.frames, direction=self.shift.direction)

        def call(layer: Any, given: Any, **arguments: Any) -> Any:
            if layer.name in starts:
                given = keras.layers.Lambda(shift, name=starts[layer.name])(given)
            return layer(given, **arguments)

        shifted = keras.models.clone_model(network, call_function=call)
        for layer in network.layers:
            shifted.get_layer(layer.name).set_weights(layer.get_weights())
        if tuned is not None:
            load_fine_tuned(shifted, tuned)
        return shifted


def shift_channels(features: Any, frames: int, direction: Direction) -> Any:
    """Take some channels of each frame from its neighbours.

    Args:
        features: ``float[B * T, H, W, C]``, the frames of clips one after the other.
        frames: Frames of a clip, T.
        direction: Where channels come from.

    Returns:
        ``float[B * T, H, W, C]``. Channels 0 to C / 8 come from the frame before, those to 2 C / 8 for ``"both"`` from
        the frame after.
    """
    ops: Any = load_keras().ops
    rows, columns, channels = features.shape[1:]
    part = channels // SHARE
    clips = ops.reshape(features, (-1, frames, rows * columns, channels))
    parts = [ops.pad(clips[:, :-1, :, :part], ((0, 0), (1, 0), (0, 0), (0, 0)))]
    if direction == "both":
        parts.append(ops.pad(clips[:, 1:, :, part : 2 * part], ((0, 0), (0, 1), (0, 0), (0, 0))))
    parts.append(clips[:, :, :, len(parts) * part :])
    return ops.reshape(ops.concatenate(parts, axis=-1), (-1, rows, columns, channels))
