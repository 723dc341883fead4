"""Which windows to show to a person: the highest scores, no two of them alike."""

from __future__ import annotations

import dataclasses
import heapq
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["MinedWindow", "WindowPool", "select_diverse"]

MOST_COMPARED = 2000
"""Windows of one video whose features are kept: 33 MB of VGG19's, whatever the length of the video."""


@dataclasses.dataclass(frozen=True, eq=False)
class MinedWindow:
    """A scored window of a video.

    Attributes:
        path: The video, absolute.
        start_s: Where the window starts, in seconds from the first frame.
        end_s: Where it ends.
        score: Probability that it shows violence.
        features: The mean of its features over time, ``float32[F]``.
    """

    path: str
    start_s: float
    end_s: float
    score: float
    features: npt.NDArray[np.float32]

    @property
    def rank(self) -> tuple[float, str, float]:
        """Sorts windows by score, the highest first; equal ones by video and time, so that the order is always one."""
        return (-self.score, self.path, self.start_s)

    def overlaps(self, other: MinedWindow) -> bool:
        """Whether both show a moment of the same video."""
        return self.path == other.path and self.start_s < other.end_s and other.start_s < self.end_s


class WindowPool:
    """The highest windows of one video, at most `MOST_COMPARED` of them."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, float, MinedWindow]] = []

    def add(self, window: MinedWindow) -> None:
        """Takes a window, and drops the lowest if there are too many; of equal ones, the later."""
        entry = (window.score, -window.start_s, window)
        if len(self._heap) < MOST_COMPARED:
            heapq.heappush(self._heap, entry)
        else:
            heapq.heappushpop(self._heap, entry)

    @property
    def windows(self) -> list[MinedWindow]:
        """The windows, in no order."""
        return [window for *_, window in self._heap]


def select_diverse(windows: Iterable[MinedWindow], count: int, distance: float) -> list[MinedWindow]:
    """Chooses windows greedily.

    The rule: go through the windows from the highest score to the lowest, and keep a window unless it overlaps in time
    with one that was kept, or its features lie within a cosine distance of those of one that was kept,
    ``1 - a @ b / (|a| |b|) <= distance``. Stop when enough are kept.

    Args:
        windows: Windows of any videos, in any order.
        count: How many to keep at most.
        distance: Cosine distance, from 0 to 2, up to which windows are alike. At 0, only windows with features of the
            same direction are.

    Returns:
        The windows that were kept, the highest score first.
    """
    kept: list[MinedWindow] = []
    directions: list[npt.NDArray[np.float64]] = []
    for window in sorted(windows, key=lambda window: window.rank):
        if len(kept) == count:
            break
        direction = _direction(window.features)
        if any(window.overlaps(other) for other in kept):
            continue
        if directions and (1 - np.stack(directions) @ direction).min() <= distance + _ROUNDING:
            continue
        kept.append(window)
        directions.append(direction)
    return kept


_ROUNDING = 1e-9


def _direction(features: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Features of length 1, ``float64[F]``; features that are all zero stay so and are like no others."""
    values = features.astype(np.float64)
    direction: npt.NDArray[np.float64] = values / max(float(np.linalg.norm(values)), np.finfo(np.float64).tiny)
    return direction
