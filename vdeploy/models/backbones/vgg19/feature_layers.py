"""The layers of VGG19 that features can be taken from."""

from __future__ import annotations

from typing import Literal

__all__ = ["BLOCK_SCALES", "CONVOLUTIONS", "DIMENSIONS", "POOLED_BLOCKS", "Layer"]

Layer = Literal["avg", "avg45", "fc2"]

DIMENSIONS: dict[Layer, int] = {"avg": 512, "avg45": 1024, "fc2": 4096}
"""Features per frame, F, of each layer."""

POOLED_BLOCKS: dict[Layer, tuple[str, ...]] = {"avg": ("block5",), "avg45": ("block4", "block5")}
"""The blocks of convolutions whose pooled maps are averaged over all positions and put one after the other.

A layer that is not here needs the fully connected part of the network.
"""

BLOCK_SCALES = {"block4": 1 / 32}
"""What a block's averages are multiplied with, where that is not 1.

On photographs the maps of block 4 are some 30 times larger than those of block 5; side by side in one normalisation
they would drown them. A power of two costs no precision.
"""

CONVOLUTIONS = {
    f"block{block}_conv{number}": width
    for block, (count, width) in enumerate(((2, 64), (2, 128), (4, 256), (4, 512), (4, 512)), start=1)
    for number in range(1, count + 1)
}
"""Output channels of each convolution, in their order (Simonyan and Zisserman 2015, table 1, column E)."""
