"""How much arithmetic a clip is: floating-point operations of both stages, counted from their sizes.

A multiply-add counts as two, of integers as well. Convolutions and matrix products are counted; biases, activations,
pooling, normalisation and gates are not: together they are under one percent. The counts are of the mathematics, the
same for every format: a Winograd convolution does fewer operations for the same result, and rates as faster.

- convolution, k x k over an H x W map, C_in to C_out channels: ``2 H W k² C_in C_out`` (VGG19: Simonyan and Zisserman
  2015, "Very Deep Convolutional Networks for Large-Scale Image Recognition", table 1, configuration E);
- dense layer, N to M: ``2 N M``;
- LSTM, F inputs, U units, T steps (Hochreiter and Schmidhuber 1997, with forget gate): four gates, each a product with
  the input and, from the second step on, with the hidden state: ``2 · 4 U (T F + (T - 1) U)``. The hidden state of the
  first step is zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vdeploy.models.backbones.vgg19.feature_layers import Layer

if TYPE_CHECKING:
    from vdeploy.artifacts.bundle import Manifest
    from vdeploy.benchmark.record import What

__all__ = ["classifier_flop", "extractor_flop", "flop_per_clip"]

_BLOCKS = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))
"""Channels and convolutions of each block; a pooling that halves the map follows each."""

_KERNEL = 3
_FULLY_CONNECTED = 4096
_GATES = 4
_CLASSES = 2


def extractor_flop(frames: int, size: int, layer: Layer) -> int:
    """Operations of VGG19 on a clip.

    Args:
        frames: Frames of the clip, T.
        size: Height and width of a frame in pixels.
        layer: Where the features are taken from; all five blocks are computed for each of them.
    """
    total, channels, side = 0, 3, size
    for width, convolutions in _BLOCKS:
        for _ in range(convolutions):
            total += 2 * side * side * _KERNEL * _KERNEL * channels * width
            channels = width
        side //= 2
    if layer == "fc2":
        total += 2 * _FULLY_CONNECTED * (channels * side * side + _FULLY_CONNECTED)
    return frames * total


def classifier_flop(frames: int, dim: int, units: int, dense: int) -> int:
    """Operations of the classifier on a clip.

    Args:
        frames: Frames of the clip, T.
        dim: Features of a frame, F.
        units: Units of the LSTM, U.
        dense: Units of the dense layer.
    """
    lstm = 2 * _GATES * units * (frames * dim + (frames - 1) * units)
    return lstm + 2 * (units * dense + dense * _CLASSES)


def flop_per_clip(manifest: Manifest, what: What) -> float | None:
    """Operations of a stage of a bundle, or of both, on one clip; ``None`` where the manifest lacks the sizes."""
    spec, extractor, classifier = manifest.clip_spec, manifest.extractor, manifest.classifier
    features = extractor_flop(spec.frames, spec.size, extractor.layer)
    if what == "extractor":
        return features
    if classifier is None:
        return None
    verdict = classifier_flop(spec.frames, extractor.dim, classifier.units, classifier.dense)
    return verdict if what == "classifier" else features + verdict
