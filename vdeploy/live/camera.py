"""One source, sampled in a worker process: its frames are left in the inbox, and it is opened again when it fails."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from vdeploy.core.errors import UserError
from vdeploy.live.inbox import Arrival
from vdeploy.live.report import Report
from vdeploy.timeline.sliding import Sample
from vdeploy.video.arrival_sampling import ArrivalSampler
from vdeploy.video.reader import Stopped
from vdeploy.video.workers.live_samples import open_live
from vdeploy.video.workers.remote_reader import RemoteReader

if TYPE_CHECKING:
    from collections.abc import Callable

    from vdeploy.live.inbox import Inbox
    from vdeploy.live.source import Source
    from vdeploy.video.pictures import Fit

__all__ = ["Camera", "backoff_s"]

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 30.0

_LONGEST_JUMP_S = 10.0
"""A file whose time stamps jump by more is played on at once."""


class Camera(threading.Thread):
    """Reads a source until it ends, is given up or is told to stop.

    A live source is read as fast as it sends, and the first frame in each part of a second that the sampling rate gives
    is kept: time is the time of arrival. A file is played at its own speed; long gaps in its times are
    skipped and told.

    Args:
        stream: Its place among the sources.
        source: What to read.
        inbox: Takes the sampled frames.
        sampled_fps: Sampled frames a second.
        size: Height and width of a sampled frame in pixels.
        fit: How a picture becomes a square.
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
        fit: Fit = "squeeze",
        tell: Callable[[Report], object],
        stop: threading.Event,
        retries: int | None = None,
    ) -> None:
        super().__init__(name=f"camera-{stream}", daemon=True)
        self.source = source
        self._stream, self._inbox, self._tell, self._stop_event = stream, inbox, tell, stop
        self._sampler, self._retries = ArrivalSampler(sampled_fps), retries
        self._size, self._fit = size, fit
        self._any_frame = False

    def run(self) -> None:
        """Reads; see the class."""
        failures = 0
        while not self._stop_event.is_set():
            reason = ""
            self._any_frame = False
            try:
                if self.source.kind == "file":
                    self._play()
                else:
                    self._sample()
            except Stopped:
                break
            except UserError as error:
                reason = str(error)
            except Exception as error:
                reason = f"{self.source.name} cannot be read ({type(error).__name__})"
            if self.source.kind == "file" and not reason:
                break
            reason = reason or f"{self.source.name} sends nothing any more"
            if self._stop_event.is_set():
                break
            failures = 1 if self._any_frame else failures + 1
            if self.source.kind == "file" or (self._retries is not None and failures > self._retries):
                self._tell(Report("lost", self.source.name, message=reason))
                break
            wait_s = backoff_s(failures)
            self._tell(Report("lost", self.source.name, message=f"{reason}; tried again in {wait_s:.1f} s"))
            self._stop_event.wait(wait_s)
        self._tell(Report("ended", self.source.name, dropped_frames=self._inbox.dropped(self._stream)))

    def _sample(self) -> None:
        """Takes what a live source sends until nothing comes any more."""
        with open_live(self.source.to_input(), self._sampler, self._size, self._stop_event, self._fit) as samples:
            self._tell(Report("connected", self.source.name))
            for sample in samples:
                self._any_frame = True
                self._inbox.miss(self._stream, sample.dropped)
                self._inbox.put(Arrival(Sample(self._stream, sample.index, sample.frame), sample.arrived_s))

    def _play(self) -> None:
        """Reads a file to its end at its own speed."""
        pace = _Pace()
        with RemoteReader(Path(self.source.target), self._stop_event) as reader:
            self._tell(Report("connected", self.source.name))
            while not self._stop_event.is_set() and reader.grab():
                wait_s, skipped_s = pace.wait_s(reader.time_us / 1e6, time.monotonic())
                if skipped_s:
                    message = f"its time stamps jump by {skipped_s:.0f} s; that is skipped"
                    self._tell(Report("gap", self.source.name, message=message))
                if wait_s > 0 and self._stop_event.wait(wait_s):
                    break
                arrived_s = time.monotonic()
                index = self._sampler.take(arrived_s)
                if index is not None:
                    frame = reader.retrieve(self._size, self._fit)
                    self._inbox.put(Arrival(Sample(self._stream, index, frame), arrived_s))


class _Pace:
    """Plays a file at its own speed, but for jumps of its time stamps."""

    def __init__(self) -> None:
        self._begun_s: float | None = None
        self._last_s = 0.0

    def wait_s(self, shown_s: float, now_s: float) -> tuple[float, float]:
        """How long to wait before a frame, and how far its time jumped from the one before, if too far to wait."""
        if self._begun_s is None:
            self._begun_s, self._last_s = now_s - shown_s, shown_s
        jump_s = shown_s - self._last_s
        self._last_s = shown_s
        if not -_LONGEST_JUMP_S <= jump_s <= _LONGEST_JUMP_S:
            self._begun_s = now_s - shown_s
            return 0.0, abs(jump_s)
        return self._begun_s + shown_s - now_s, 0.0


def backoff_s(failures: int) -> float:
    """How long to wait after so many failures in a row: twice as long each time up to half a minute, give or take."""
    return min(_FIRST_WAIT_S * 2.0 ** min(failures - 1, 16), _LONGEST_WAIT_S) * random.uniform(0.8, 1.2)  # noqa: S311
