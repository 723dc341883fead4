"""Windows of many streams that a server keeps: each sampled frame is sent alone, those of all streams at a time."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

from vdeploy.core.errors import CrowdedError
from vdeploy.timeline.sliding import Sample, ScoredWindow

if TYPE_CHECKING:
    from vdeploy.inference.scorer import KeptStream, StreamScore, StreamScorer
    from vdeploy.timeline.events import Window
    from vdeploy.timeline.windows import WindowPlan

__all__ = ["ServerWindows"]

_LARGEST_CROWD = 64
"""Streams that wait for an answer at the same time, each in a thread of its own."""

Key = TypeVar("Key", bound=Hashable)


class ServerWindows(Generic[Key]):
    """Frames of any number of streams in, scored windows out, as of a `SlidingDetector`, but the server keeps them.

    The scores are those of a `SlidingDetector`. Only where frames are missing when a window is due, the window that
    ends with the next frame takes its place. Not for several threads at a time.

    Args:
        scorer: The server.
        plan: The windows of every stream.
        longest_gap: Sampled frames in a row that may be missing from a stream; the plan's if left out.

    Attributes:
        refused: Streams that the server has no room for, and why. Their frames are left out, and a window's length
            later each is tried again; the others go on.
    """

    def __init__(self, scorer: StreamScorer, plan: WindowPlan, longest_gap: int | None = None) -> None:
        self.scorer, self.plan = scorer, plan
        self.refused: dict[Key, CrowdedError] = {}
        self._longest_gap = plan.longest_gap if longest_gap is None else longest_gap
        self._courses: dict[Key, _Course] = {}
        self._again_at: dict[Key, int] = {}
        self._crowd = concurrent.futures.ThreadPoolExecutor(_LARGEST_CROWD, "stream")

    def feed(self, samples: Sequence[Sample[Key]]) -> list[ScoredWindow[Key]]:
        """Takes sampled frames, those of one stream in order.

        Args:
            samples: As many as are at hand: those of several streams share batches on the server.

        Returns:
            The windows that are complete now, those of one stream in order.

        Raises:
            ClientError: The server does not answer.
        """
        of_streams: dict[Key, list[Sample[Key]]] = {}
        for sample in samples:
            if sample.index >= self._again_at.get(sample.stream, 0):
                of_streams.setdefault(sample.stream, []).append(sample)
        for key in of_streams.keys() - self._courses.keys():
            self._courses[key] = _Course(self.scorer.open(), self.plan, self._longest_gap)
        waiting = {key: self._crowd.submit(self._courses[key].take, one) for key, one in of_streams.items()}
        concurrent.futures.wait(waiting.values())
        windows = []
        for key, done in waiting.items():
            try:
                windows += [ScoredWindow(key, window) for window in done.result()]
            except CrowdedError as error:
                self._courses.pop(key).close()
                self.refused[key], self._again_at[key] = error, of_streams[key][-1].index + self.plan.frames
            else:
                self.refused.pop(key, None)
        return windows

    def finish(self, stream: Key, end_s: float | None = None) -> list[ScoredWindow[Key]]:
        """Forgets a stream, here and on the server.

        Args:
            stream: The stream, which may have had no frame.
            end_s: When it ended, in seconds; its last window ends no later.

        Returns:
            The window that ends with the stream, if that was not complete before.
        """
        self.refused.pop(stream, None)
        course = self._courses.pop(stream, None)
        window = course.finish(end_s) if course else None
        return [ScoredWindow(stream, window)] if window else []


class _Course:
    """How far one stream has come."""

    def __init__(self, stream: KeptStream, plan: WindowPlan, longest_gap: int) -> None:
        self._stream, self._plan, self._longest_gap = stream, plan, longest_gap
        self._begin = self._next = 0
        self._due = -1
        self._score: StreamScore | None = None

    def take(self, samples: Sequence[Sample[Key]]) -> list[Window]:
        """Sends samples, several at a time where no window is due between them."""
        windows: list[Window] = []
        waiting: list[tuple[Sample[Key], int]] = []
        for sample in samples:
            missing = sample.index - self._next
            if self._begin == self._next or missing > self._longest_gap:
                self._send(waiting)
                windows += self._last(self._next / self._plan.sampled_fps)
                self._begin_anew(sample.index)
                missing = 0
            waiting.append((sample, missing))
            self._next = sample.index + 1
            due = (self._next - self._begin - self._plan.frames) // self._plan.stride
            is_due = due > self._due
            if is_due or len(waiting) == self._plan.frames:
                self._send(waiting)
            if is_due and self._score:
                self._due = due
                windows.append(self._plan.window(self._next - self._plan.frames, self._score.probability))
                self._score = None
        self._send(waiting)
        return windows

    def finish(self, end_s: float | None) -> Window | None:
        """Ends the stream; the window that ends with it, unless that has been scored already."""
        self.close()
        return next(iter(self._last(end_s)), None)

    def close(self) -> None:
        """Has the server forget the stream."""
        self._stream.close()

    def _last(self, end_s: float | None) -> list[Window]:
        """The window that ends with the last frame, unless that has been scored already."""
        score = self._score
        return [] if score is None else [self._plan.window(self._next - score.held, score.probability, end_s)]

    def _begin_anew(self, index: int) -> None:
        if self._begin != self._next:
            self._stream.clear()
        self._begin = self._next = index
        self._due, self._score = -1, None

    def _send(self, waiting: list[tuple[Sample[Key], int]]) -> None:
        if waiting:
            frames = np.stack([sample.frame for sample, _ in waiting])
            self._score = self._stream.push(frames, [missing for _, missing in waiting])
            waiting.clear()
