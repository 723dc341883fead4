"""One source, read in a thread of its own: sampled, resized, left in the inbox, and opened again when it fails."""

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING

import cv2

from vdeploy.core.errors import UserError
from vdeploy.live.inbox import Arrival
from vdeploy.live.report import Report
from vdeploy.timeline.sliding import Sample
from vdeploy.video.reader import resize

if TYPE_CHECKING:
    from collections.abc import Callable

    from vdeploy.live.inbox import Inbox
    from vdeploy.live.source import Source

__all__ = ["Camera", "backoff_s"]

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 30.0


class Camera(threading.Thread):
    """Reads a source until it ends, is given up or is told to stop.

    A live source is read as fast as it sends, and the first frame in each part of a second that the sampling rate gives
    is kept: time is the time of arrival. A file is played at its own speed.

    Args:
        stream: Its place among the sources.
        source: What to read.
        inbox: Takes the sampled frames.
        sampled_fps: Sampled frames a second.
        size: Height and width of a sampled frame in pixels.
        tell: Called with what happens to the connection; from this thread.
        stop: Set to end.
        retries: Failures in a row after which a live source is given up; ``None`` for never.
    """

    def __init__(
        self,
        stream: int,
        source: Source,
        inbox: Inbox,
        *,
        sampled_fps: float,
        size: int,
        tell: Callable[[Report], object],
        stop: threading.Event,
        retries: int | None = None,
    ) -> None:
        super().__init__(name=f"camera-{stream}", daemon=True)
        self.source = source
        self._stream, self._inbox, self._tell, self._stop_event = stream, inbox, tell, stop
        self._fps, self._size, self._retries = sampled_fps, size, retries
        self._origin: float | None = None
        self._index = -1

    def run(self) -> None:
        """Reads; see the class."""
        failures = 0
        while not self._stop_event.is_set():
            try:
                capture = self.source.open()
            except UserError as error:
                reason = str(error)
            else:
                self._tell(Report("connected", self.source.name))
                if self._read(capture):
                    failures = 0
                if self.source.kind == "file":
                    break
                reason = f"{self.source.name} sends nothing any more"
            if self._stop_event.is_set():
                break
            failures += 1
            if self.source.kind == "file" or (self._retries is not None and failures > self._retries):
                self._tell(Report("lost", self.source.name, message=reason))
                break
            wait_s = backoff_s(failures)
            self._tell(Report("lost", self.source.name, message=f"{reason}; tried again in {wait_s:.1f} s"))
            self._stop_event.wait(wait_s)
        self._tell(Report("ended", self.source.name, dropped_frames=self._inbox.dropped(self._stream)))

    def _read(self, capture: cv2.VideoCapture) -> bool:
        """Reads until nothing comes any more; whether anything came."""
        begun = time.monotonic()
        any_frame = False
        try:
            while not self._stop_event.is_set() and capture.grab():
                any_frame = True
                if self.source.kind == "file":
                    ahead_s = begun + capture.get(cv2.CAP_PROP_POS_MSEC) / 1000 - time.monotonic()
                    if ahead_s > 0 and self._stop_event.wait(ahead_s):
                        break
                self._sample(capture)
        finally:
            capture.release()
        return any_frame

    def _sample(self, capture: cv2.VideoCapture) -> None:
        arrived = time.monotonic()
        if self._origin is None:
            self._origin = arrived
        index = int((arrived - self._origin) * self._fps)
        if index <= self._index:
            return
        done, picture = capture.retrieve()
        if not done:
            return
        frame = cv2.cvtColor(resize(picture, self._size), cv2.COLOR_BGR2RGB)
        self._index = index
        self._inbox.put(Arrival(Sample(self._stream, index, frame), arrived))


def backoff_s(failures: int) -> float:
    """How long to wait after so many failures in a row: twice as long each time up to half a minute, give or take."""
    return min(_FIRST_WAIT_S * 2.0 ** min(failures - 1, 16), _LONGEST_WAIT_S) * random.uniform(0.8, 1.2)  # noqa: S311
