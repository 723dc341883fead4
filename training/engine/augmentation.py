"""Augmentation of features: which frames of which view of which clip a step looks at, and what they are mixed with.

Everything random is drawn here, for a whole epoch at once, from the recipe's seed and the number of the epoch. What is
left to the compiled step is to gather rows and, with mixup, to add them up.

CutMix pastes steps in time. Where a backbone looks at frames one by one, features of a clip whose frames were cut are
the features of the frames, cut alike, so it costs no further extraction and is exact, as it is for the activations of a
trunk (`training.methods.fine_tuning`).
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
        share: lambda, the share of the clip itself in what is learned of it, ``float32[N]``.
        partner: Position of the other clip, ``int64[N]``.
        added: The share where features are added up, ``float32[N]``, 1 where they are cut; ``None`` without mixup.
        pasted: Steps in time that are the other clip's, ``bool[N, T]``; ``None`` without CutMix.
    """

    share: npt.NDArray[np.float32]
    partner: npt.NDArray[np.int64]
    added: npt.NDArray[np.float32] | None = None
    pasted: npt.NDArray[np.bool_] | None = None


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


def draw_mixing(
    random: np.random.Generator, clips: int, batch: int, frames: int, section: AugmentSection
) -> Mixing | None:
    """Draws the pairs of mixup and CutMix; with both, a batch gets either with probability 1/2.

    Mixup (Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization", eq. 1 and 2): x = lambda x_i + (1 - lambda)
    x_j and y = lambda y_i + (1 - lambda) y_j with lambda from Beta(alpha, alpha) for each pair; j runs over a
    permutation of the batch, as in the authors' code. x are the normalised features.

    CutMix (Yun et al. 2019, "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features",
    eq. 1), in time as in the temporal variant of VideoMix (Yun et al. 2020): x = M x_i + (1 - M) x_j, where M is 0 for
    the pasted steps; y as above, with lambda the share of the steps that stay. See `_draw_stretches`.

    Args:
        random: Source of randomness.
        clips: Clips of the epoch, a multiple of the batch.
        batch: Clips of a batch.
        frames: Steps in time of a clip, T.
        section: Holds alpha of both; 0 switches either off.

    Returns:
        The pairs, or ``None``.
    """
    if not (section.mixup or section.cutmix):
        return None
    added = random.beta(section.mixup, section.mixup, clips).astype(np.float32) if section.mixup else None
    partner = random.permuted(np.arange(clips).reshape(-1, batch), axis=1).ravel()
    if added is not None and not section.cutmix:
        return Mixing(added, partner, added)
    pasted = _draw_stretches(random, clips, frames, section.cutmix)
    kept = 1 - pasted.mean(axis=1, dtype=np.float32)
    if added is None:
        return Mixing(kept, partner, pasted=pasted)
    is_cut = np.repeat(random.random(clips // batch) < 0.5, batch)
    added = np.where(is_cut, np.float32(1), added)
    return Mixing(np.where(is_cut, kept, added), partner, added, pasted & is_cut[:, None])


def _draw_stretches(random: np.random.Generator, clips: int, frames: int, alpha: float) -> npt.NDArray[np.bool_]:
    """The steps that are pasted, one stretch a clip, ``bool[N, T]``.

    A stretch has (1 - lambda) T steps, rounded, with lambda from Beta(alpha, alpha), and lies inside the clip, anywhere
    with the same probability. In the paper (eq. 2) its middle does, and what lies outside is lost, which makes short
    stretches more frequent than lambda says.
    """
    lengths = np.rint((1 - random.beta(alpha, alpha, clips)) * frames).astype(np.int64)
    starts = random.integers(frames - lengths + 1)[:, None]
    steps = np.arange(frames)
    return (starts <= steps) & (steps < starts + lengths[:, None])
