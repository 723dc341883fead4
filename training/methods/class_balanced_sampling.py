"""Class-balanced sampling: an epoch draws clips of both classes equally often, whatever their numbers.

Class weights multiply the loss of the rare class, so its few clips take large steps now and then. Drawing them more
often instead gives every batch both classes (Kang et al. 2020, "Decoupling Representation and Classifier for
Long-Tailed Recognition", sec. 3: class-balanced sampling, p_j = 1 / C).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from training.recipe_sections import SamplingSection

if TYPE_CHECKING:
    import numpy.typing as npt

    Clips = npt.NDArray[np.int64]

__all__ = ["class_pools", "draw_clips", "drawn_labels"]


def class_pools(labels: Clips) -> tuple[Clips, Clips]:
    """The clips of each class, by number.

    Args:
        labels: 0 or 1, ``int64[N]``.
    """
    return np.flatnonzero(labels == 0), np.flatnonzero(labels == 1)


def drawn_labels(section: SamplingSection, labels: Clips) -> Clips:
    """Labels in the proportion in which the classes are drawn, for whatever balances the classes.

    Args:
        section: How clips are drawn.
        labels: 0 or 1, ``int64[N]``.
    """
    return np.arange(2) if section.balance == "classes" else labels


def draw_clips(random: np.random.Generator, pools: Sequence[Clips], count: int) -> Clips:
    """Draws equally often from each pool, and each clip of a pool equally often, as nearly as whole numbers go.

    A pool that is larger than its share loses other clips in each epoch; one that is smaller repeats its clips, every
    one before any of them comes again.

    Args:
        random: Source of randomness.
        pools: Numbers of clips, none of them empty. From a single pool of ``count`` clips, a permutation is drawn.
        count: How many clips to draw.

    Returns:
        ``int64[count]``, in the order of the epoch.
    """
    if len(pools) == 1:
        return _repeated(random, pools[0], count)
    shares = np.full(len(pools), count // len(pools))
    shares[random.permutation(len(pools))[: count % len(pools)]] += 1
    return random.permutation(
        np.concatenate([_repeated(random, pool, int(share)) for pool, share in zip(pools, shares, strict=True)])
    )


def _repeated(random: np.random.Generator, pool: Clips, count: int) -> Clips:
    rounds = [random.permutation(pool) for _ in range(-(-count // len(pool)))]
    return np.concatenate([*rounds, pool[:0]])[:count]
