"""The parts of each backbone that can be pruned: what they keep, and how many frames they are fitted on."""

from __future__ import annotations

import dataclasses

__all__ = ["STAGES", "Stage", "stage_of"]


@dataclasses.dataclass(frozen=True)
class Stage:
    """One part.

    Attributes:
        ratio: Share of the channels that it keeps, in proportion to the other stages of its backbone.
        frames: How many frames it looks at at most, where maps are large and weights are few.
    """

    ratio: float
    frames: int | None = None


STAGES = {
    "block1": Stage(1.0, 32),
    "block2": Stage(1.0, 64),
    "block3": Stage(1.0, 128),
    "block4": Stage(1.5),
    "block5": Stage(3.0),
    "Conv3d": Stage(1.0, 512),
    "Mixed_3": Stage(1.0, 512),
    "Mixed_4": Stage(1.5, 1024),
    "Mixed_5": Stage(3.0),
}
"""The stages of VGG19 and of I3D by what the names of their convolutions begin with.

He, Zhang & Sun 2017, "Channel Pruning for Accelerating Very Deep Neural Networks", keep 1 : 1.5 in the shallow blocks
and block 4 of VGG-16, and all of block 5, which has a tenth of the operations. Here block 5 keeps three times the share
of the shallow blocks, so that it is whole unless little is kept. I3D has the same proportions at maps of the same size.
"""


def stage_of(name: str) -> str:
    """The stage that a convolution belongs to."""
    return next(stage for stage in STAGES if name.startswith(stage))
