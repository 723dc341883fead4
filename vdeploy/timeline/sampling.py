"""A video file in, the frames that a plan samples out, one after the other; nothing but the last one is kept."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from vdeploy.core.errors import ClipError
from vdeploy.video.file_checks import check_file
from vdeploy.video.reader import VideoReader

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from vdeploy.timeline.windows import WindowPlan
    from vdeploy.video.pictures import Fit

    _Sampled = tuple[int, npt.NDArray[np.uint8]]

__all__ = ["VideoSampler"]

_ASSUMED_FPS = 25.0
_GAP_FRAMES = 1.5
"""Frames that lie farther apart than so many of their usual distances, and than sampling times do, have a gap between
them, in which the frame before is shown."""

_TOLD_GAP_FRAMES = 5.0
"""Gaps of at least so many of the usual distances between frames, and of half a window, are told."""

_LONGEST_HOLD_WINDOWS = 30
"""A frame that is shown for longer than so many windows is no video any more."""

_TOLERANCE_S = 1e-5


class VideoSampler:
    """The frames of a video that a plan samples, by the times at which they are shown.

    Time starts with the first frame. Where times are missing or do not grow, frames follow each other at the frame rate
    that the container states. A frame that is shown for long stands for all sampled frames of that time: their numbers
    are left out as long as `vdeploy.timeline.windows.WindowSlider` bridges that, and the frame comes again where it
    would not.

    Args:
        path: A video file.
        plan: When frames are sampled.
        size: Height and width of a sampled frame in pixels.
        stop: Set to give up.
        max_pixels: Largest width times height of a frame; ``None`` for no limit.
        fit: How a picture becomes a square.

    Attributes:
        duration_s: How much was decoded so far, in seconds.
        decoded_frames: How many frames that are.
        expected_s: How long the video is according to its container, in seconds; 0 if that says nothing.
        gaps_s: Lengths of the long gaps in its times so far, in seconds.

    Raises:
        ClipError: The file is missing, empty or no video.
    """

    def __init__(
        self,
        path: Path,
        plan: WindowPlan,
        size: int,
        stop: threading.Event | None = None,
        *,
        max_pixels: int | None = None,
        fit: Fit = "squeeze",
    ) -> None:
        check_file(path)
        self._path, self._plan, self._size, self._fit = path, plan, size, fit
        self._reader = VideoReader(path, stop or threading.Event(), max_pixels)
        self._interval_s = 1 / (self._reader.fps or _ASSUMED_FPS)
        self.expected_s = self._reader.frame_count * self._interval_s or self._reader.duration_s
        self._origin_s = 0.0
        self._last_s = -math.inf
        self._index = -1
        self._held: npt.NDArray[np.uint8] | None = None
        self._held_to_s = 0.0
        self.duration_s = 0.0
        self.decoded_frames = 0
        self.gaps_s: list[float] = []

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is odd about the video, as far as it was decoded: short sentences without its name."""
        found = self._reader.warnings
        if self.duration_s >= self.expected_s and (damage := self._reader.damage):
            found = (*found, damage)
        if not self.gaps_s:
            return found
        count = "a gap in its times" if len(self.gaps_s) == 1 else f"{len(self.gaps_s)} gaps in its times"
        told = f"it has {count}, {sum(self.gaps_s):.1f} s in all; what comes before a long one is scored as an end is"
        return (*found, told)

    def __iter__(self) -> Iterator[_Sampled]:
        """Yields each sampled frame with its number: ``uint8[S, S, 3]``, RGB. To be called once.

        Raises:
            ClipError: No frame can be decoded.
            vdeploy.video.reader.Stopped: ``stop`` was set.
        """
        with self._reader:
            while self._reader.grab():
                yield from self._take()
                self.decoded_frames += 1
        if self._held is None:
            raise ClipError(self._path, "holds no frame that can be decoded")
        yield from self._end()

    def _take(self) -> Iterator[_Sampled]:
        shown_s, before_s = self._time(), self._last_s
        self._last_s, self.duration_s = shown_s, shown_s + self._interval_s
        if shown_s - before_s > max(_GAP_FRAMES * self._interval_s, 1 / self._plan.sampled_fps):
            self._held_to_s = shown_s
            told_s = max(_TOLD_GAP_FRAMES * self._interval_s, self._plan.window_s / 2)
            if self.decoded_frames and shown_s - before_s >= told_s:
                self.gaps_s.append(shown_s - before_s)
        due = max(self._index + 1, self._first_from(self._held_to_s))
        is_due = self._plan.time_of(due) + _TOLERANCE_S < self.duration_s
        if is_due:
            yield from self._hold_until(due)
        if is_due or self._held is None:
            self._held = self._reader.retrieve(self._size, self._fit)
            self._held_to_s = self.duration_s
        if is_due:
            self._index = due
            yield due, self._held

    def _end(self) -> Iterator[_Sampled]:
        last = max(self._first_from(self.duration_s) - 1, 0)
        if last > self._index and self._held is not None:
            yield from self._hold_until(last)
            yield last, self._held

    def _hold_until(self, index: int) -> Iterator[_Sampled]:
        """Gives the frame before once more wherever the numbers left out would become too many."""
        step = self._plan.longest_gap + 1
        if self._held is None or index - self._index > _LONGEST_HOLD_WINDOWS * self._plan.frames:
            return
        for number in range(self._index + step, index, step):
            yield number, self._held

    def _first_from(self, time_s: float) -> int:
        """Number of the first sampled frame at or after a time."""
        return max(math.ceil((time_s - _TOLERANCE_S) * self._plan.sampled_fps - 0.5), 0)

    def _time(self) -> float:
        stated_s = self._reader.time_us / 1e6
        if self.decoded_frames == 0:
            self._origin_s = stated_s
            return 0.0
        shown_s = stated_s - self._origin_s
        return shown_s if shown_s > self._last_s else self._last_s + self._interval_s
