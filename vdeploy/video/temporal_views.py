"""Views: further samplings of the same clip, between the frames of the usual one, for the classifier to train on.

View v of V takes frame ``floor((i + (v + 0.5) / V) * n / T)`` for i = 0 .. T - 1 of the n frames of a clip. The usual
sampling, ``floor((i + 0.5) * n / T)``, is view 0 of 1, and for every odd V it is the middle view. The V views together
are the usual sampling at V * T frames, dealt out in turn: one decoding gives them all.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["MIDDLE", "deal", "offsets", "row_name"]

MIDDLE = Fraction(1, 2)
"""Offset of the usual sampling: the middle of each of the T equal parts of a clip."""


def offsets(views: int) -> tuple[Fraction, ...]:
    """Where in each of the T equal parts of a clip the frame of each view lies: ``(v + 1/2) / V``.

    Args:
        views: How many views, V; odd, so that the usual sampling is the middle one.

    Returns:
        V numbers between 0 and 1, ascending.

    Raises:
        ValueError: V is even or less than 1.

    Example:
        >>> [str(offset) for offset in offsets(3)]
        ['1/6', '1/2', '5/6']
    """
    if views < 1 or views % 2 == 0:
        raise ValueError(f"views must be odd, not {views}")
    return tuple(Fraction(2 * view + 1, 2 * views) for view in range(views))


def row_name(sha256: str, offset: Fraction) -> str:
    """Under what the feature store keeps a view: the clip's content hash, and the offset unless it is the middle."""
    return sha256 if offset == MIDDLE else f"{sha256}@{offset}"


def deal(frames: npt.NDArray[np.uint8], views: int, chosen: Sequence[int]) -> npt.NDArray[np.uint8]:
    """Splits the frames of a clip decoded with V views.

    Args:
        frames: ``uint8[V * T, H, W, 3]``, as in `vdeploy.video.clips.Clip`.
        views: V.
        chosen: The views wanted.

    Returns:
        ``uint8[len(chosen), T, H, W, 3]``, C-contiguous.
    """
    dealt = frames.reshape(-1, views, *frames.shape[1:])
    return np.ascontiguousarray(dealt[:, list(chosen)].swapaxes(0, 1))
