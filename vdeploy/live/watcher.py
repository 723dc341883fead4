"""Any number of live sources against one scorer: frames of all of them share batches, and verdicts come as reports."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from vdeploy.core.errors import ClientError, UserError
from vdeploy.inference.scorer import StreamScorer
from vdeploy.live.camera import Camera, backoff_s
from vdeploy.live.inbox import Arrival, Inbox
from vdeploy.live.judge import Judge
from vdeploy.live.report import Report
from vdeploy.live.server_windows import ServerWindows
from vdeploy.timeline.events import EventRule
from vdeploy.timeline.sliding import ScoredWindow, SlidingDetector
from vdeploy.timeline.windows import WindowPlan

if TYPE_CHECKING:
    from vdeploy.inference.scorer import StagedScorer
    from vdeploy.live.source import Source

__all__ = ["Connect", "watch"]

Connect = Callable[[], contextlib.AbstractContextManager["StagedScorer"]]
"""Opens the scorer; called again after a server has failed."""

_ASK_AGAIN_S = 60.0
_POLL_S = 0.2
_JOIN_S = 2.0


def watch(
    sources: Sequence[Source],
    connect: Connect,
    *,
    window_s: float | None = None,
    stride_s: float | None = None,
    rule: Callable[[float], EventRule] = EventRule.at,
    newest: Connect | None = None,
    retries: int | None = None,
    stop: threading.Event | None = None,
) -> Iterator[Report]:
    """Watches sources until all have ended.

    Frames that cannot be looked at in time are dropped, evenly; nothing is scored late. When a server fails, it is
    asked again and again, and windows begin anew once it answers. A source that it has no room for is told as lost, and
    as connected once it has. Where a deployment brings a model with another threshold, events follow it, those that are
    going on as well.

    Args:
        sources: What to watch.
        connect: Opens the scorer. One that is a `vdeploy.inference.scorer.StreamScorer` keeps the windows itself.
        window_s: Length of a window in seconds; left out, that of the training clips, or 2 s where it is not known.
        stride_s: From window to window; half a window if left out.
        rule: Returns what makes windows events where a scorer has this threshold.
        newest: Opens the version that the scorer's server has loaded last, to read its threshold; left out, that of the
            scorer stays until a server has failed. Asked once a minute, and only where that version scores.
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
        watcher = _Watcher(sources, connect, connection, stop or threading.Event())
        yield from watcher.run(window_s, stride_s, rule, newest, retries)


class _Watcher:
    def __init__(
        self,
        sources: Sequence[Source],
        connect: Connect,
        connection: contextlib.ExitStack,
        stop: threading.Event,
    ) -> None:
        self._sources, self._connect, self._connection, self._stop = sources, connect, connection, stop
        self._told: queue.SimpleQueue[Report] = queue.SimpleQueue()
        self._thresholds: queue.SimpleQueue[tuple[StagedScorer, float]] = queue.SimpleQueue()
        self._scorer = connection.enter_context(connect())
        self._refused: set[int] = set()
        self._ends_s: dict[int, float] = {}

    def run(
        self,
        window_s: float | None,
        stride_s: float | None,
        rule: Callable[[float], EventRule],
        newest: Connect | None,
        retries: int | None,
    ) -> Iterator[Report]:
        spec, names = self._scorer.spec, [source.name for source in self._sources]
        self._plan = WindowPlan.for_scorer(self._scorer, window_s, stride_s)
        self._inbox = Inbox(max(1, spec.frames // 4))
        self._judge = Judge(names, self._inbox.dropped, rule, self._scorer.threshold)
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
        asking = threading.Thread(target=self._ask, args=(newest, over), name="version", daemon=True)
        try:
            for thread in (*cameras, asking):
                thread.start()
            going = dict(enumerate(cameras))
            while going and not self._stop.is_set():
                ended = [stream for stream, camera in going.items() if not camera.is_alive()]
                yield from self._heard()
                yield from self._follow()
                yield from self._look_at(self._inbox.take(0 if ended else _POLL_S))
                for stream in ended:
                    del going[stream]
                    yield from self._end(stream)
            yield from self._judge.finish()
        finally:
            over.set()
            for thread in (*cameras, asking):
                thread.join(_JOIN_S)
        yield from self._heard()

    def _heard(self) -> Iterator[Report]:
        with contextlib.suppress(queue.Empty):
            while True:
                yield self._told.get_nowait()

    def _ask(self, newest: Connect | None, over: threading.Event) -> None:
        """Reads the newest version's threshold once a minute, in a thread: a server that hangs delays no window.

        A scorer of features keeps the version that it began with, and fails once that is gone.
        """
        while newest and not over.wait(_ASK_AGAIN_S):
            scorer = self._scorer
            if isinstance(scorer, StreamScorer) or (scorer.granularity == "clip" and scorer.causal is None):
                with contextlib.suppress(UserError), newest() as found:
                    self._thresholds.put((scorer, found.threshold))

    def _follow(self) -> Iterator[Report]:
        """Judges by the threshold that was read last, unless the scorer has been opened again since."""
        with contextlib.suppress(queue.Empty):
            while True:
                scorer, threshold = self._thresholds.get_nowait()
                if scorer is self._scorer and (message := self._judge.change(threshold)):
                    yield Report("scorer_changed", message=message, threshold=self._judge.rule.enter)

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
            yield from self._judge.add(one, round(latency_s * 1000, 1))

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
            yield from self._judge.add(one, None)

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
            message = self._judge.change(self._scorer.threshold)
            yield Report("scorer_back", message=message, threshold=self._judge.rule.enter)
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
