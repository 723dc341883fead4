"""Any number of live sources against one scorer: frames of all of them share batches, and verdicts come as reports."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from vdeploy.core.errors import ClientError
from vdeploy.inference.scorer import StreamScorer
from vdeploy.live.camera import Camera, backoff_s
from vdeploy.live.inbox import Arrival, Inbox
from vdeploy.live.report import Report
from vdeploy.live.server_windows import ServerWindows
from vdeploy.timeline.events import EventRule, EventTracker
from vdeploy.timeline.sliding import ScoredWindow, SlidingDetector
from vdeploy.timeline.windows import WindowPlan

if TYPE_CHECKING:
    from vdeploy.inference.scorer import StagedScorer
    from vdeploy.live.source import Source

__all__ = ["Connect", "watch"]

Connect = Callable[[], contextlib.AbstractContextManager["StagedScorer"]]
"""Opens the scorer; called again after a server has failed."""

_POLL_S = 0.2
_JOIN_S = 2.0


def watch(
    sources: Sequence[Source],
    connect: Connect,
    *,
    window_s: float | None = None,
    stride_s: float | None = None,
    rule: EventRule | None = None,
    retries: int | None = None,
    stop: threading.Event | None = None,
) -> Iterator[Report]:
    """Watches sources until all have ended.

    Frames that cannot be looked at in time are dropped, evenly; nothing is scored late. When a server fails, it is
    asked again and again, and windows begin anew once it answers. A source that it has no room for is told as lost, and
    as connected once it has.

    Args:
        sources: What to watch.
        connect: Opens the scorer. One that is a `vdeploy.inference.scorer.StreamScorer` keeps the windows itself.
        window_s: Length of a window in seconds; left out, that of the training clips, or 2 s where it is not known.
        stride_s: From window to window; half a window if left out.
        rule: What makes windows events; left out, the one for the scorer's threshold.
        retries: Failures in a row after which a live source is given up; ``None`` for never.
        stop: Set to end; what is going on is finished first.

    Yields:
        What happens, as it happens.

    Raises:
        ClientError: The server does not answer at the start, keeps fewer streams than there are sources, or serves a
            model for other clips later.
        TimelineError: A length is not positive.
    """
    with contextlib.ExitStack() as connection:
        watcher = _Watcher(sources, connect, connection, rule, stop or threading.Event())
        yield from watcher.run(window_s, stride_s, retries)


class _Watcher:
    def __init__(
        self,
        sources: Sequence[Source],
        connect: Connect,
        connection: contextlib.ExitStack,
        rule: EventRule | None,
        stop: threading.Event,
    ) -> None:
        self._sources, self._connect, self._connection, self._stop = sources, connect, connection, stop
        self._told: queue.SimpleQueue[Report] = queue.SimpleQueue()
        self._scorer = connection.enter_context(connect())
        self._trackers = [EventTracker(rule or EventRule.at(self._scorer.threshold)) for _ in sources]
        self._refused: set[int] = set()
        self._ends_s: dict[int, float] = {}

    def run(self, window_s: float | None, stride_s: float | None, retries: int | None) -> Iterator[Report]:
        spec = self._scorer.spec
        self._plan = WindowPlan.for_scorer(self._scorer, window_s, stride_s)
        self._inbox = Inbox(max(1, spec.frames // 4))
        self._detector = self._new_detector()
        over = threading.Event()
        cameras = [
            Camera(
                stream,
                source,
                self._inbox,
                sampled_fps=self._plan.sampled_fps,
                size=spec.size,
                fit=spec.fit,
                tell=self._told.put,
                stop=over,
                retries=retries,
            )
            for stream, source in enumerate(self._sources)
        ]
        try:
            for camera in cameras:
                camera.start()
            going = dict(enumerate(cameras))
            while going and not self._stop.is_set():
                ended = [stream for stream, camera in going.items() if not camera.is_alive()]
                yield from self._heard()
                yield from self._look_at(self._inbox.take(0 if ended else _POLL_S))
                for stream in ended:
                    del going[stream]
                    yield from self._end(stream)
            yield from self._finish()
        finally:
            over.set()
            for camera in cameras:
                camera.join(_JOIN_S)
        yield from self._heard()

    def _heard(self) -> Iterator[Report]:
        with contextlib.suppress(queue.Empty):
            while True:
                yield self._told.get_nowait()

    def _look_at(self, arrivals: list[Arrival]) -> Iterator[Report]:
        try:
            scored = self._detector.feed([arrival.sample for arrival in arrivals]) if arrivals else []
        except ClientError as error:
            yield from self._reconnect(error)
            return
        for arrival in arrivals:
            self._ends_s[arrival.sample.stream] = (arrival.sample.index + 1) / self._plan.sampled_fps
        yield from self._room()
        now = time.monotonic()
        for one in scored:
            latency_s = now - _arrival_of(one, arrivals, self._plan)
            yield from self._judge(one, round(latency_s * 1000, 1))

    def _room(self) -> Iterator[Report]:
        """Tells which sources the server has no room for, and which it has room for again."""
        refused = self._detector.refused if isinstance(self._detector, ServerWindows) else {}
        for stream in sorted(refused.keys() - self._refused):
            message = f"{refused[stream]}; tried again every {self._plan.window_s:g} s"
            yield Report("lost", self._sources[stream].name, message=message)
        for stream in sorted(self._refused - refused.keys()):
            yield Report("connected", self._sources[stream].name)
        self._refused = set(refused)

    def _end(self, stream: int) -> Iterator[Report]:
        """Scores what is left of a source that has ended."""
        try:
            self._refused.discard(stream)
            left = self._detector.finish(stream, self._ends_s.get(stream))
        except ClientError as error:
            yield Report("scorer_lost", message=str(error))
            return
        for one in left:
            yield from self._judge(one, None)

    def _judge(self, scored: ScoredWindow[int], latency_ms: float | None) -> Iterator[Report]:
        stream, window, tracker = scored.stream, scored.window, self._trackers[scored.stream]
        name, dropped = self._sources[stream].name, self._inbox.dropped(stream)
        yield Report("window", name, window=window, latency_ms=latency_ms, dropped_frames=dropped)
        before = tracker.current
        over = tracker.add(window)
        if over:
            yield Report("event_ended", name, event=over, dropped_frames=dropped)
            before = None
        if before is None and tracker.current:
            yield Report("event_began", name, event=tracker.current, latency_ms=latency_ms, dropped_frames=dropped)

    def _finish(self) -> Iterator[Report]:
        for stream, (source, tracker) in enumerate(zip(self._sources, self._trackers, strict=True)):
            if over := tracker.finish():
                yield Report("event_ended", source.name, event=over, dropped_frames=self._inbox.dropped(stream))

    def _reconnect(self, error: ClientError) -> Iterator[Report]:
        """Asks for the scorer again until it answers; frames that come meanwhile are dropped."""
        spec, failures = self._scorer.spec, 0
        self._connection.close()
        while not self._stop.is_set():
            failures += 1
            wait_s = backoff_s(failures)
            yield Report("scorer_lost", message=f"{error}; tried again in {wait_s:.1f} s")
            if self._stop.wait(wait_s):
                return
            try:
                self._scorer = self._connection.enter_context(self._connect())
            except ClientError as again:
                error = again
                continue
            if self._scorer.spec != spec:
                raise ClientError("the server serves a model for other clips now", "start again")
            self._detector = self._new_detector()
            yield Report("scorer_back")
            return

    def _new_detector(self) -> SlidingDetector[int] | ServerWindows[int]:
        if isinstance(self._scorer, StreamScorer):
            count, most = len(self._sources), self._scorer.max_streams
            if count > most:
                raise ClientError(
                    f"the server keeps {most} streams, and there are {count} sources",
                    "watch fewer, serve with a higher --streams, or leave --server-windows out",
                )
            return ServerWindows(self._scorer, self._plan, longest_gap=self._plan.frames)
        return SlidingDetector(self._scorer, self._plan, longest_gap=self._plan.frames)


def _arrival_of(scored: ScoredWindow[int], arrivals: list[Arrival], plan: WindowPlan) -> float:
    """When the frame came that completed a window."""
    last = round(scored.window.end_s * plan.sampled_fps) - 1
    times = [(arrival.sample.index, arrival.arrived) for arrival in arrivals if arrival.sample.stream == scored.stream]
    return next((arrived for index, arrived in times if index >= last), times[-1][1])
