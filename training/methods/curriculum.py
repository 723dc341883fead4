"""Curriculum: an epoch draws from the clips that a teacher finds easiest, of which there are more and more.

Bengio et al. 2009, "Curriculum Learning", and Hacohen & Weinshall 2019, "On The Power of Curriculum Learning in
Training Deep Networks": clips are ordered by the loss of a teacher, and the share of them that is drawn from follows a
fixed exponential pacing (eq. 1). As the paper asks, the easiest are taken of each class by itself, so that every epoch
keeps the proportion of the classes. An epoch has as many steps as without a curriculum.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from training.recipe_sections import CurriculumSection

if TYPE_CHECKING:
    import numpy.typing as npt

    Clips = npt.NDArray[np.int64]

__all__ = ["TEACHER", "easiest", "pace"]

TEACHER = "teacher.npy"
"""File of a run folder with the probabilities that the order of the clips follows from."""


def pace(section: CurriculumSection, epoch: int) -> float:
    """The share of the clips that an epoch draws from: min(start * increase^floor((epoch - 1) / step_epochs), 1).

    Args:
        section: The pacing.
        epoch: Number of the epoch, from 1.
    """
    steps = (epoch - 1) // section.step_epochs
    # The power is compared as a logarithm: it may be larger than any float.
    if steps * math.log(section.increase) >= -math.log(section.start):
        return 1.0
    return min(section.start * section.increase**steps, 1.0)


def easiest(pools: Sequence[Clips], losses: npt.NDArray[np.float64], share: float) -> list[Clips]:
    """The clips with the lowest losses of each pool, at least one, the easiest first; of equals the first.

    Args:
        pools: Numbers of clips.
        losses: The teacher's loss of each clip, ``float64[N]``.
        share: How many of each pool.
    """
    return [pool[np.argsort(losses[pool], kind="stable")][: max(math.ceil(share * len(pool)), 1)] for pool in pools]
