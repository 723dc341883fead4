"""Augmentation of features: which frames of which view of which clip a step looks at, and what they are mixed with.

Everything random is drawn here, for a whole epoch at once, from the recipe's seed and the number of the epoch. What is
left to the compiled step is to gather rows and, with mixup, to add them up.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from training.recipe_sections import AugmentSection

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Mixing", "draw_frames", "draw_mixing"]


@dataclasses.dataclass(frozen=True)
class Mixing:
    """What each clip is mixed with.

    Attributes:
        share: lambda, the share of the clip itself, ``float32[N]``.
        partner: Position of the other clip, ``int64[N]``.
    """

    share: npt.NDArray[np.float32]
    partner: npt.NDArray[np.int64]


def draw_frames(
    random: np.random.Generator, clips: int, views: int, frames: int, section: AugmentSection
) -> npt.NDArray[np.int32]:
    """Draws a view of each clip, and the frames of it.

    With ``frame_jitter`` p, a frame is replaced with probability p by the one before or after it, either with
    probability 1/2 (by the only neighbour at an end). With ``frame_drop`` p, a frame other than the first is lost with
    probability p, and the last one before it that was not lost is shown again.

    Args:
        random: Source of randomness.
        clips: Number of clips, N.
        views: Views of a clip, V; each is as likely as the others.
        frames: Frames of a clip, T.
        section: The probabilities.

    Returns:
        Frame numbers within a clip's V * T, ``int32[N, T]``.
    """
    chosen = np.broadcast_to(np.arange(frames), (clips, frames))
    if section.frame_jitter and frames > 1:
        moved = chosen + random.choice((-1, 1), chosen.shape)
        moved = np.where(moved < 0, 1, np.where(moved == frames, frames - 2, moved))
        chosen = np.where(random.random(chosen.shape) < section.frame_jitter, moved, chosen)
    if section.frame_drop:
        lost = random.random(chosen.shape) < section.frame_drop
        lost[:, 0] = False
        shown = np.maximum.accumulate(np.where(lost, 0, np.arange(frames)), axis=1)
        chosen = np.take_along_axis(chosen, shown, axis=1)
    view = random.integers(views, size=(clips, 1))
    return np.asarray(chosen + frames * view, np.int32)


def draw_mixing(random: np.random.Generator, clips: int, batch: int, section: AugmentSection) -> Mixing | None:
    """Draws mixup's pairs (Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization", eq. 1 and 2).

    x = lambda x_i + (1 - lambda) x_j and y = lambda y_i + (1 - lambda) y_j with lambda from Beta(alpha, alpha) for each
    pair; j runs over a permutation of the batch, as in the authors' code. x are the normalised features.

    Args:
        random: Source of randomness.
        clips: Clips of the epoch, a multiple of the batch.
        batch: Clips of a batch.
        section: Holds alpha; 0 switches mixup off.

    Returns:
        The pairs, or ``None``.
    """
    if not section.mixup:
        return None
    share = random.beta(section.mixup, section.mixup, clips).astype(np.float32)
    partner = random.permuted(np.arange(clips).reshape(-1, batch), axis=1).ravel()
    return Mixing(share, partner)
