"""How many channels each convolution of VGG19 keeps, so that a given share of the operations stays."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from vdeploy.models.backbones.vgg19.feature_layers import CONVOLUTIONS, POOLED_BLOCKS, Layer

__all__ = ["LEAST_KEEP", "STEP", "choose_widths", "flops_share"]

STEP = 8
"""Widths are multiples of this: what vector units and INT8 kernels work on at once."""

LEAST_KEEP = 0.05
"""The least share; below it, every convolution is at a few channels."""

_RATIOS = {"block1": 1.0, "block2": 1.0, "block3": 1.0, "block4": 1.5, "block5": 3.0}
"""Shares of the channels that blocks keep, in proportion to each other.

He, Zhang & Sun 2017, "Channel Pruning for Accelerating Very Deep Neural Networks", keep 1 : 1.5 in the shallow blocks
and block 4 of VGG-16, and all of block 5, which has a tenth of the operations. Here block 5 keeps three times the share
of the shallow blocks, so that it is whole unless little is kept.
"""


def flops_share(widths: Mapping[str, int], size: int) -> float:
    """The operations of a VGG19 with other widths, as a share of VGG19's.

    Args:
        widths: Output channels of each convolution.
        size: Height and width of a frame in pixels.
    """
    return _operations(widths, size) / _operations(CONVOLUTIONS, size)


def choose_widths(keep: float, size: int, layer: Layer) -> dict[str, int]:
    """Choose the widths with the largest share of the operations up to a given one.

    The blocks' shares grow together; what is left by rounding goes to single convolutions, the last ones first.

    Args:
        keep: Share of VGG19's operations that may stay, from `LEAST_KEEP` to 1.
        size: Height and width of a frame in pixels.
        layer: Where features are taken: the convolutions there keep all channels.
    """
    fixed = {f"{block}_conv4" for block in POOLED_BLOCKS[layer]}
    low, high = 0.0, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if flops_share(_widths(middle, fixed), size) <= keep else (low, middle)
    widths = _widths(high if flops_share(_widths(high, fixed), size) <= keep else low, fixed)
    for name in reversed(CONVOLUTIONS):
        wider = {**widths, name: min(widths[name] + STEP, CONVOLUTIONS[name])}
        if flops_share(wider, size) <= keep:
            widths = wider
    return widths


def _widths(ratio: float, fixed: set[str]) -> dict[str, int]:
    kept = {name: min(ratio * _RATIOS[name.partition("_")[0]], 1.0) for name in CONVOLUTIONS}
    return {
        name: width if name in fixed else max(int(kept[name] * width) // STEP * STEP, STEP)
        for name, width in CONVOLUTIONS.items()
    }


def _operations(widths: Mapping[str, int], size: int) -> int:
    """Multiply-adds of all 3 x 3 convolutions for one frame."""
    total, inputs = 0, 3
    for number, (_, names) in enumerate(itertools.groupby(CONVOLUTIONS, lambda name: name.partition("_")[0])):
        for name in names:
            total += 9 * inputs * widths[name] * (size >> number) ** 2
            inputs = widths[name]
    return total
