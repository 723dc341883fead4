"""Where cameras leave sampled frames: whoever comes late finds fewer of them, not old ones."""

from __future__ import annotations

import collections
import dataclasses
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vdeploy.timeline.sliding import Sample

__all__ = ["Arrival", "Inbox"]


@dataclasses.dataclass(frozen=True, eq=False)
class Arrival:
    """A sampled frame and when it came.

    Attributes:
        sample: The frame; its stream is the camera's place.
        arrived: On the clock of `time.monotonic`.
    """

    sample: Sample[int]
    arrived: float


class Inbox:
    """Frames that wait to be looked at. Every second one of a camera is dropped when it has too many of them.

    Args:
        capacity: Frames of one camera that may wait.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._filled = threading.Condition()
        self._waiting: dict[int, list[Arrival]] = collections.defaultdict(list)
        self._dropped: collections.Counter[int] = collections.Counter()

    def put(self, arrival: Arrival) -> None:
        """Leaves a frame; never waits."""
        stream = arrival.sample.stream
        with self._filled:
            waiting = [*self._waiting[stream], arrival]
            if len(waiting) > self._capacity:
                kept = waiting[::-2][::-1]
                self._dropped[stream] += len(waiting) - len(kept)
                waiting = kept
            self._waiting[stream] = waiting
            self._filled.notify()

    def miss(self, stream: int, count: int) -> None:
        """Counts frames of a camera that were dropped before they came here."""
        with self._filled:
            self._dropped[stream] += count

    def take(self, timeout_s: float) -> list[Arrival]:
        """All waiting frames, those of a camera in order; none if none came in time."""
        with self._filled:
            self._filled.wait_for(lambda: any(self._waiting.values()), timeout_s)
            taken = [arrival for waiting in self._waiting.values() for arrival in waiting]
            self._waiting.clear()
        return taken

    def dropped(self, stream: int) -> int:
        """How many frames of a camera have been dropped."""
        with self._filled:
            return self._dropped[stream]
