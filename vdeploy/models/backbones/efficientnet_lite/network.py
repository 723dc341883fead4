"""EfficientNet-Lite as one Keras graph from RGB pixels to features; batch normalisation is folded into convolutions."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

from vdeploy.core.lazy_imports import load_keras

if TYPE_CHECKING:
    import keras

__all__ = ["FEATURES", "Variant", "block_names", "build_network", "residual_block_names"]

FEATURES = 1280
"""Features of a frame, F: the channels of the last convolution, the same in all variants."""

Variant = Literal["lite0", "lite1", "lite2"]

_MULTIPLIERS: dict[Variant, tuple[float, float]] = {"lite0": (1.0, 1.0), "lite1": (1.0, 1.1), "lite2": (1.1, 1.2)}
"""Width and depth of each variant, in those of lite0."""

_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
"""Blocks, kernel, stride of the first block, expansion and channels of each stage (Tan and Le 2019, table 1)."""

_STEM_CHANNELS = 32


@dataclasses.dataclass(frozen=True)
class _Block:
    """One inverted residual block."""

    name: str
    kernel: int
    stride: int
    expanded: int
    channels: int
    residual: bool


def build_network(variant: Variant, size: int, *, classes: int = 0) -> keras.Model:
    """EfficientNet-Lite up to the average over all positions.

    The Lite variants are EfficientNet (Tan and Le 2019) without squeeze-and-excitation, with ReLU6 for swish, and with
    the stem, the head and the number of blocks of the first and last stage alike in all sizes. Convolutions have
    TensorFlow's SAME padding, which is asymmetric where the stride is 2. Convolutions are named as in the published
    PyTorch weights, without the underscores that names there begin with.

    Args:
        variant: Which size.
        size: Height and width of a frame in pixels.
        classes: With the published classifier's logits for so many classes instead of features, to check weights with.

    Returns:
        A model ``pixels float32[N, size, size, 3]`` (RGB, 0 to 255) -> ``features float32[N, 1280]``, or ``logits
        float32[N, classes]``.
    """
    keras: Any = load_keras()
    layers = keras.layers
    inputs = keras.Input((size, size, 3), name="pixels", dtype="float32")
    x = layers.Rescaling(1 / 128, offset=-127 / 128, name="scale")(inputs)
    x = _convolution(layers, x, _STEM_CHANNELS, "conv_stem", kernel=3, strides=2)
    x = layers.ReLU(6, name="conv_stem.relu6")(x)
    for block in _blocks(variant):
        x = _apply(layers, x, block)
    x = _convolution(layers, x, FEATURES, "conv_head")
    x = layers.ReLU(6, name="conv_head.relu6")(x)
    x = layers.GlobalAveragePooling2D(name="average")(x)
    if classes:
        x = layers.Dense(classes, name="fc")(x)
    return keras.Model(inputs, x, name=f"efficientnet_{variant}")


def block_names(variant: Variant) -> tuple[str, ...]:
    """Names of the inverted residual blocks, from the first to the last; their layers' names begin with them."""
    return tuple(block.name for block in _blocks(variant))


def residual_block_names(variant: Variant) -> tuple[str, ...]:
    """Names of those blocks that add their input to their output."""
    return tuple(block.name for block in _blocks(variant) if block.residual)


def _blocks(variant: Variant) -> Iterator[_Block]:
    width, depth = _MULTIPLIERS[variant]
    before, number = _STEM_CHANNELS, 0
    for index, (repeats, kernel, stride, expansion, channels) in enumerate(_STAGES):
        blocks = repeats if index in {0, len(_STAGES) - 1} else math.ceil(repeats * depth)
        after = _round_to_eight(channels * width)
        for repeat in range(blocks):
            yield _Block(
                name=f"blocks.{number}",
                kernel=kernel,
                stride=1 if repeat else stride,
                expanded=before * expansion,
                channels=after,
                residual=repeat > 0,
            )
            before, number = after, number + 1


def _round_to_eight(channels: float) -> int:
    """The multiple of 8 nearest to a number of channels, never less than nine tenths of it."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def _apply(layers: ModuleType, x: Any, block: _Block) -> Any:
    y = x
    if block.expanded != x.shape[-1]:
        y = _convolution(layers, y, block.expanded, f"{block.name}.expand_conv")
        y = layers.ReLU(6, name=f"{block.name}.expand_conv.relu6")(y)
    name = f"{block.name}.depthwise_conv"
    y = layers.DepthwiseConv2D(
        block.kernel,
        strides=block.stride,
        padding="same",
        depthwise_initializer=load_keras().initializers.RandomNormal(stddev=math.sqrt(2) / block.kernel),
        name=name,
    )(y)
    y = layers.ReLU(6, name=f"{name}.relu6")(y)
    y = _convolution(layers, y, block.channels, f"{block.name}.project_conv")
    return layers.Add(name=f"{block.name}.add")([y, x]) if block.residual else y


def _convolution(layers: ModuleType, x: Any, channels: int, name: str, kernel: int = 1, strides: int = 1) -> Any:
    """A convolution whose random weights keep the scale of what goes through (He et al. 2015)."""
    return layers.Conv2D(channels, kernel, strides=strides, padding="same", kernel_initializer="he_normal", name=name)(
        x
    )
