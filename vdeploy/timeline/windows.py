"""Windows that slide over a stream of sampled frames; what is kept of a frame is used in all of its windows."""

from __future__ import annotations

import collections
import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from vdeploy.core.errors import TimelineError
from vdeploy.timeline.events import Window
from vdeploy.video.wanted_frames import frame_indices

if TYPE_CHECKING:
    import numpy.typing as npt

    from vdeploy.inference.scorer import StagedScorer

__all__ = ["ASSUMED_WINDOW_S", "DueWindow", "WindowPlan", "WindowSlider"]

ASSUMED_WINDOW_S = 2.0
"""Length of a training clip in seconds where nobody says what it was."""

_HIGHEST_SAMPLED_FPS = 1000.0
"""No camera gives more frames a second; each sampled frame costs memory and time, whatever the video holds."""


@dataclasses.dataclass(frozen=True)
class WindowPlan:
    """When frames are sampled, and which of them make a window.

    Frame k of a stream is the one that is shown at ``(k + 0.5) / sampled_fps`` seconds, the middle of the k-th of equal
    parts: a window of T frames is sampled as `vdeploy.video.clips.frame_indices` samples a clip of the window's length.

    Attributes:
        frames: Sampled frames of a window, T.
        window_s: Length of a window in seconds.
        stride: Sampled frames from the start of a window to the start of the next.

    Raises:
        TimelineError: A length is not positive, or so short that no camera gives the frames.
    """

    frames: int
    window_s: float
    stride: int

    def __post_init__(self) -> None:
        if not (0 < self.window_s < math.inf and self.stride >= 1):
            raise TimelineError(
                f"windows of {self.window_s:g} s every {self.stride} sampled frames make no timeline",
                "give a positive window and stride, in seconds",
            )
        if self.sampled_fps > _HIGHEST_SAMPLED_FPS:
            raise TimelineError(
                f"a window of {self.window_s:g} s would sample {self.sampled_fps:g} frames a second",
                f"give a window of at least {self.frames / _HIGHEST_SAMPLED_FPS:g} s",
            )

    @classmethod
    def of(cls, frames: int, window_s: float, stride_s: float | None = None) -> WindowPlan:
        """Plans windows by seconds.

        Args:
            frames: Sampled frames of a window, T.
            window_s: Length of a window.
            stride_s: From window to window, rounded to whole sampled frames; half a window if left out.

        Raises:
            TimelineError: A length is not positive.
        """
        wanted = window_s / 2 if stride_s is None else stride_s
        if not (0 < window_s < math.inf and 0 < wanted < math.inf):
            raise TimelineError(
                f"windows of {window_s:g} s every {wanted:g} s make no timeline", "give positive numbers of seconds"
            )
        return cls(frames, window_s, max(1, round(wanted * frames / window_s)))

    @classmethod
    def for_scorer(cls, scorer: StagedScorer, window_s: float | None, stride_s: float | None = None) -> WindowPlan:
        """Plans windows for a scorer.

        Args:
            scorer: What will score them.
            window_s: Length of a window in seconds; left out, that of the scorer's training clips, or 2 s.
            stride_s: As for `of`.

        Raises:
            TimelineError: A length is not positive.
        """
        length = window_s if window_s is not None else scorer.clip_seconds or ASSUMED_WINDOW_S
        return cls.of(scorer.spec.frames, length, stride_s)

    @property
    def sampled_fps(self) -> float:
        """Sampled frames a second."""
        return self.frames / self.window_s

    @property
    def stride_s(self) -> float:
        """From the start of a window to the start of the next, in seconds."""
        return self.stride / self.sampled_fps

    @property
    def longest_gap(self) -> int:
        """Sampled frames in a row that may be missing from a window: half of it."""
        return self.frames // 2

    def time_of(self, index: int) -> float:
        """When the frame that is sampled with this number is shown, in seconds."""
        return (index + 0.5) / self.sampled_fps

    def window(self, first: int, probability: float, end_s: float | None = None) -> Window:
        """The scored window that begins with a sampled frame; ``end_s`` where the source ends before it would."""
        start_s, full_s = first / self.sampled_fps, (first + self.frames) / self.sampled_fps
        return Window(round(start_s, 6), round(full_s if end_s is None else min(end_s, full_s), 6), probability)


@dataclasses.dataclass(frozen=True, eq=False)
class DueWindow:
    """A window whose frames are complete.

    Attributes:
        first: Number of its first sampled frame.
        values: What was pushed for its frames: features ``float32[T, F]``, frames ``uint8[T, S, S, 3]``, or objects.
        end: Number after its last sampled frame, where a gap ends it before a whole window is over.
    """

    first: int
    values: npt.NDArray[Any]
    end: int | None = None


class WindowSlider:
    """The last T features, or frames, of one stream.

    Args:
        plan: The windows.
        longest_gap: Sampled frames in a row that may be missing; the plan's if left out.
    """

    def __init__(self, plan: WindowPlan, longest_gap: int | None = None) -> None:
        self._plan = plan
        self._longest_gap = plan.longest_gap if longest_gap is None else longest_gap
        self._values: collections.deque[Any] = collections.deque(maxlen=plan.frames)
        self._begin = self._next = 0

    def continues(self, index: int) -> bool:
        """Whether windows go on with a sampled frame of this number, so that they do not begin anew there."""
        return bool(self._values) and index - self._next <= self._longest_gap

    def push(self, index: int, value: Any) -> list[DueWindow]:
        """Takes the features of the next sampled frame, or the frame.

        Numbers that were left out stand for what came before them, as long as they are no more than the
        longest gap. What comes before a longer gap ends there, as a stream does, and windows begin anew after it, so
        that none spans it.

        Args:
            index: Number of the sampled frame, larger than the one before.
            value: Features ``float32[F]``, the frame ``uint8[S, S, 3]``, or an object.

        Returns:
            The windows that are complete now.
        """
        due: list[DueWindow] = []
        if self.continues(index):
            held = self._values[-1]
            for _ in range(index - self._next):
                due += self._append(held)
        else:
            if last := self.finish():
                due.append(dataclasses.replace(last, end=self._next))
            self._values.clear()
            self._begin = self._next = index
        return due + self._append(value)

    def finish(self) -> DueWindow | None:
        """Says that the stream has ended.

        Returns:
            The window that ends with it, unless it is due already. A stream shorter than a window is spread over one,
            as a short clip is.
        """
        length, wanted = self._next - self._begin, self._plan.frames
        if length == 0 or (length >= wanted and (length - wanted) % self._plan.stride == 0):
            return None
        held = list(self._values)
        values = np.stack([held[index] for index in frame_indices(len(held), wanted)])
        return DueWindow(self._next - len(held), values)

    def _append(self, value: Any) -> list[DueWindow]:
        self._values.append(value)
        self._next += 1
        past = self._next - self._begin - self._plan.frames
        if past < 0 or past % self._plan.stride:
            return []
        return [DueWindow(self._next - self._plan.frames, np.stack(list(self._values)))]
