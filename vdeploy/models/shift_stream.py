"""The streaming form of the causal temporal shift: one frame after the other, with a buffer of shifted channels.

The buffer holds, for each shifted block, the channels that the next frame takes from the last one; zeros stand before a
stream's first frame, as they stand before a clip's (Lin, Gan and Han 2019, "TSM: Temporal Shift Module for Efficient
Video Understanding", sec. 3.3 and 4, "online video recognition").
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from vdeploy.core.lazy_imports import load_keras
from vdeploy.models.extractor import FeatureExtractor
from vdeploy.models.temporal_shift import SHARE, TemporalShiftBackbone

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["ShiftStream", "shift_into"]


class ShiftStream:
    """Runs the network of a causal shift on the next frames of a stream; it shares the network's layers.

    Args:
        extractor: The backbone, a `TemporalShiftBackbone` towards the past, with its weights.

    Attributes:
        length: Values of the buffer, D.
        size: Height and width of a frame in pixels.
        dim: Features of a frame, F.

    Raises:
        ValueError: It is another backbone.
    """

    def __init__(self, extractor: FeatureExtractor) -> None:
        if not isinstance(extractor.backbone, TemporalShiftBackbone) or not extractor.past_frames:
            raise ValueError(f"{extractor.backbone.title} has no streaming form")
        keras: Any = load_keras()
        network = next(layer for layer in extractor.network.layers if isinstance(layer, keras.Model))
        shifts = [network.get_layer(name) for name in extractor.backbone.shift_layers]
        ends = [*(shift.input for shift in shifts), network.output]
        self._trunk = keras.Model(network.input, ends[0])
        self._tails = [
            keras.Model([shift.input, shift.output], end) for shift, end in zip(shifts, ends[1:], strict=True)
        ]
        self._shapes = [(*shift.input.shape[1:3], shift.input.shape[3] // SHARE) for shift in shifts]
        self.length = sum(math.prod(shape) for shape in self._shapes)
        self.size, self.dim = extractor.size, extractor.dim

    def __call__(self, frames: tf.Tensor, buffer: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Compute the features of the next frames.

        Args:
            frames: ``uint8[1, t, H, W, 3]``, RGB; t may be unknown.
            buffer: ``float32[1, D]``: what the frames before have left, zeros where there are none.

        Returns:
            ``features float32[1, t, F]``, and ``buffer float32[1, D]`` for the frames after them.
        """
        ops: Any = load_keras().ops
        x = self._trunk(ops.reshape(ops.cast(frames, "float32"), (-1, self.size, self.size, 3)), training=False)
        left, start = [], 0
        for shape, tail in zip(self._shapes, self._tails, strict=True):
            end = start + math.prod(shape)
            shifted, last = shift_into(x, ops.reshape(buffer[:, start:end], (1, *shape)))
            left.append(ops.reshape(last, (1, -1)))
            x, start = tail([x, shifted], training=False), end
        return ops.reshape(x, (1, -1, self.dim)), ops.concatenate(left, axis=1)


def shift_into(features: Any, before: Any) -> tuple[Any, Any]:
    """Take some channels of each frame of a stream from the frame before it.

    Args:
        features: ``float[t, H, W, C]``, consecutive frames.
        before: ``float[1, H, W, C / 8]``: channels of the frame before the first one.

    Returns:
        ``float[t, H, W, C]``, and the channels of the last frame, ``float[1, H, W, C / 8]``.
    """
    ops: Any = load_keras().ops
    part = features.shape[3] // SHARE
    taken = ops.concatenate([before, features[:, :, :, :part]], axis=0)
    return ops.concatenate([taken[:-1], features[:, :, :, part:]], axis=-1), taken[-1:]
