"""Training clips in all of their views, for the report."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from training.recipe import Recipe
from vdeploy.core.errors import ClipError
from vdeploy.dataset import Dataset
from vdeploy.video.views import usual_view
from vdeploy.video.workers.clips import decode_clip

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["ViewedClip", "training_views"]

_CLIPS_OF_A_CLASS = 2
_MOST_VIEWS = 6


@dataclasses.dataclass(frozen=True, eq=False)
class ViewedClip:
    """A training clip as the network sees it.

    Attributes:
        path: The clip.
        label: 0 or 1.
        views: Title and frames ``uint8[T, H, W, 3]`` of each view, the usual one first.
    """

    path: str
    label: int
    views: Sequence[tuple[str, npt.NDArray[np.uint8]]]


def training_views(dataset: Dataset, recipe: Recipe) -> tuple[ViewedClip, ...]:
    """Makes up to six views of the first two training clips of each class; none where the recipe has one view only.

    Clips that cannot be decoded any more are left out.
    """
    views = recipe.views
    if views.count == 1:
        return ()
    usual, titles = usual_view(views.count), views.titles()
    numbers = [usual, *(number for number in range(views.count) if number != usual)][:_MOST_VIEWS]
    spec = dataclasses.replace(recipe.clip_spec, views=views.decoded)
    shown: list[ViewedClip] = []
    for label in (1, 0):
        for clip in [clip for clip in dataset.of("train") if clip.label == label][:_CLIPS_OF_A_CLASS]:
            try:
                frames = decode_clip(dataset.absolute(clip), spec).frames
            except ClipError:
                continue
            made = views.deal(frames, numbers, clip.sha256)
            shown.append(
                ViewedClip(clip.path, label, [(titles[n], view) for n, view in zip(numbers, made, strict=True)])
            )
    return tuple(shown)
