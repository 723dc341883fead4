"""Views: further samplings, mirror images and augmented copies of the same clip, for the classifier to train on.

Sampling v of V takes frame ``floor((i + (v + 0.5) / V) * n / T)`` for i = 0 .. T - 1 of the n frames of a clip. The
usual sampling, ``floor((i + 0.5) * n / T)``, is sampling 0 of 1, and for every odd V it is the middle one. The V
samplings together are the usual sampling at V * T frames, dealt out in turn: one decoding gives them all.

A mirror image has left and right swapped: a fight seen from the other side. Each follows the sampling that it mirrors.

Augmented views stand before and after these, half of them each, so that the usual sampling stays in the middle.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from vdeploy.video.augmented_views import AugmentedViews

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["USUAL_VIEW", "Views", "usual_view"]

_MIDDLE = Fraction(1, 2)
"""Offset of the usual sampling: the middle of each of the T equal parts of a clip."""

_FINER = 5
"""How many times as many frames are decoded where augmented views choose among them; odd."""

_NOT_AUGMENTED = AugmentedViews()


@dataclasses.dataclass(frozen=True)
class Views:
    """The views of each clip to train on.

    Attributes:
        samplings: V; odd, so that the usual sampling is the middle one.
        mirrored: Whether the mirror image of each sampling is a view as well.
        augmented: Further views, and how they are made.

    Raises:
        ValueError: V is even or less than 1.

    Example:
        >>> Views(3).row_names("ab")
        ('ab@1/6', 'ab', 'ab@5/6')
    """

    samplings: int = 1
    mirrored: bool = False
    augmented: AugmentedViews = _NOT_AUGMENTED

    def __post_init__(self) -> None:
        if self.samplings < 1 or self.samplings % 2 == 0:
            raise ValueError(f"samplings must be odd, not {self.samplings}")

    @property
    def count(self) -> int:
        """How many views there are."""
        return self._sampled + self.augmented.count

    @property
    def decoded(self) -> int:
        """How many times T frames are decoded of each clip, evenly spaced."""
        return self.samplings * (_FINER if self.augmented.changes_time else 1)

    @property
    def offsets(self) -> tuple[Fraction, ...]:
        """Where in each of the T equal parts of a clip the frame of each sampling lies: ``(v + 1/2) / V``."""
        return tuple(Fraction(2 * v + 1, 2 * self.samplings) for v in range(self.samplings))

    def row_names(self, sha256: str) -> tuple[str, ...]:
        """Under what the feature store keeps each view: the clip's content hash alone for the usual one."""
        offsets = [sha256 if offset == _MIDDLE else f"{sha256}@{offset}" for offset in self.offsets]
        return self._arranged(offsets, " mirrored", f"{sha256} augmented {self.augmented.digest} {{}}", 0)

    def titles(self) -> tuple[str, ...]:
        """What each view is, in words."""
        offsets = ["plain" if offset == _MIDDLE else f"sampled at {offset}" for offset in self.offsets]
        return self._arranged(offsets, ", mirrored", "augmented {}", 1)

    def deal(self, frames: npt.NDArray[np.uint8], chosen: Sequence[int], sha256: str) -> npt.NDArray[np.uint8]:
        """Makes views of the decoded frames of a clip.

        Args:
            frames: ``uint8[decoded * T, H, W, 3]``, as in `vdeploy.video.clips.Clip`.
            chosen: Numbers of the views wanted.
            sha256: The clip's content hash, which augmented views follow from.

        Returns:
            ``uint8[len(chosen), T, H, W, 3]``, C-contiguous.
        """
        dealt = frames.reshape(-1, self.decoded, *frames.shape[1:])
        finer, kinds = self.decoded // self.samplings, self._sampled // self.samplings
        usual = frames.reshape(-1, self.samplings, *frames.shape[1:])[:, self.samplings // 2]

        def view(number: int) -> npt.NDArray[np.uint8]:
            sampled = number - self._first
            if 0 <= sampled < self._sampled:
                return dealt[:, sampled // kinds * finer + finer // 2, :, :: -1 if sampled % kinds else 1]
            further = number if sampled < 0 else number - self._sampled
            return self.augmented.make(usual, len(dealt), sha256, further)

        return np.stack([view(number) for number in chosen])

    def _arranged(self, samplings: Sequence[str], mirrored: str, augmented_as: str, first: int) -> tuple[str, ...]:
        """Names in the order of the views: of the samplings, with an ending for mirror images, and counted ones."""
        sampled = [name + end for name in samplings for end in (("", mirrored) if self.mirrored else ("",))]
        augmented = [augmented_as.format(first + number) for number in range(self.augmented.count)]
        return (*augmented[: self._first], *sampled, *augmented[self._first :])

    @property
    def _sampled(self) -> int:
        """How many views are samplings and their mirror images."""
        return self.samplings * (2 if self.mirrored else 1)

    @property
    def _first(self) -> int:
        """Number of the first of these."""
        return usual_view(self.count) - usual_view(self._sampled)


USUAL_VIEW = Views()
"""The usual sampling alone, which is what a served model sees."""


def usual_view(count: int) -> int:
    """Number of the usual sampling among so many views."""
    return (count - 1) // 2
