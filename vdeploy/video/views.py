"""Views: further samplings and mirror images of the same clip, for the classifier to train on.

Sampling v of V takes frame ``floor((i + (v + 0.5) / V) * n / T)`` for i = 0 .. T - 1 of the n frames of a clip. The
usual sampling, ``floor((i + 0.5) * n / T)``, is sampling 0 of 1, and for every odd V it is the middle one. The V
samplings together are the usual sampling at V * T frames, dealt out in turn: one decoding gives them all.

A mirror image has left and right swapped: a fight seen from the other side. Each follows the sampling that it mirrors.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["USUAL_VIEW", "Views", "usual_view"]

_MIDDLE = Fraction(1, 2)
"""Offset of the usual sampling: the middle of each of the T equal parts of a clip."""


@dataclasses.dataclass(frozen=True)
class Views:
    """The views of each clip to train on.

    Attributes:
        samplings: V; odd, so that the usual sampling is the middle one.
        mirrored: Whether the mirror image of each sampling is a view as well.

    Raises:
        ValueError: V is even or less than 1.

    Example:
        >>> Views(3).row_names("ab")
        ('ab@1/6', 'ab', 'ab@5/6')
    """

    samplings: int = 1
    mirrored: bool = False

    def __post_init__(self) -> None:
        if self.samplings < 1 or self.samplings % 2 == 0:
            raise ValueError(f"samplings must be odd, not {self.samplings}")

    @property
    def count(self) -> int:
        """How many views there are."""
        return self.samplings * (2 if self.mirrored else 1)

    @property
    def offsets(self) -> tuple[Fraction, ...]:
        """Where in each of the T equal parts of a clip the frame of each sampling lies: ``(v + 1/2) / V``."""
        return tuple(Fraction(2 * v + 1, 2 * self.samplings) for v in range(self.samplings))

    def row_names(self, sha256: str) -> tuple[str, ...]:
        """Under what the feature store keeps each view: the clip's content hash alone for the usual one."""
        names = [sha256 if offset == _MIDDLE else f"{sha256}@{offset}" for offset in self.offsets]
        return tuple(name + end for name in names for end in (("", " mirrored") if self.mirrored else ("",)))

    def deal(self, frames: npt.NDArray[np.uint8], chosen: Sequence[int]) -> npt.NDArray[np.uint8]:
        """Splits the frames of a clip that was decoded with V samplings.

        Args:
            frames: ``uint8[V * T, H, W, 3]``, as in `vdeploy.video.clips.Clip`.
            chosen: Numbers of the views wanted.

        Returns:
            ``uint8[len(chosen), T, H, W, 3]``, C-contiguous.
        """
        dealt = frames.reshape(-1, self.samplings, *frames.shape[1:])
        kinds = self.count // self.samplings
        views = [dealt[:, number // kinds, :, :: -1 if number % kinds else 1] for number in chosen]
        return np.stack(views)


USUAL_VIEW = Views()
"""The usual sampling alone, which is what a served model sees."""


def usual_view(count: int) -> int:
    """Number of the usual sampling among so many views."""
    return (count - 1) // 2
