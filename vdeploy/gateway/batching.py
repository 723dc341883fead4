"""A thread that owns the scorer and scores waiting clips in batches."""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from vdeploy.gateway.deadlines import NO_DEADLINE, Deadline, retry_after_s
from vdeploy.gateway.problems import busy
from vdeploy.gateway.service_times import ServiceTimes
from vdeploy.gateway.traces import NO_TRACE, Trace, Tracing

if TYPE_CHECKING:
    import numpy.typing as npt

    from vdeploy.inference.scorer import Scorer

__all__ = ["Batcher", "Scored"]

_CALL = 0
"""The size of a call of a function among the service times."""


@dataclasses.dataclass(frozen=True)
class Scored:
    """The result for one clip.

    Attributes:
        probability: Of violence.
        batch: Clips in its batch.
        waited_ms: Time in the queue.
        took_ms: Time that the batch took.
    """

    probability: float
    batch: int
    waited_ms: float
    took_ms: float


@dataclasses.dataclass(frozen=True)
class _Waiting:
    clip: npt.NDArray[np.uint8] | None
    call: Callable[[], Any] | None
    future: concurrent.futures.Future[Any]
    since: float
    deadline: Deadline = NO_DEADLINE
    trace: Trace = NO_TRACE


class Batcher:
    """Scores the clips of many requests in few calls.

    No clip waits for others to arrive: all that were queued while a batch was scored make the next batch. A clip that
    would be answered after its deadline is refused when it arrives, and one whose deadline passes is never scored.

    Args:
        scorer: Called from one thread only.
        batch: Largest number of clips in a call.
        capacity: Clips and calls that may wait.
        on_batch: Called with the number of clips of each batch and the seconds that it took.
        tracing: Records batches.
    """

    def __init__(
        self,
        scorer: Scorer,
        *,
        batch: int = 8,
        capacity: int = 64,
        on_batch: Callable[[int, float], None] | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        self.scorer = scorer
        self._batch = batch
        self._capacity = capacity
        self._on_batch = on_batch
        self._tracing = tracing or Tracing()
        self._queue: collections.deque[_Waiting] = collections.deque()
        self._changed = threading.Condition()
        self._times = ServiceTimes()
        self._in_work: tuple[int, float] | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="gateway-scorer", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Clips and calls in the queue."""
        return len(self._queue)

    @property
    def expected_s(self) -> float:
        """Seconds until a clip that is submitted now is scored; 0 where nothing is in work or was measured."""
        with self._changed:
            return self._expected_s()

    def submit(
        self, clip: npt.NDArray[np.uint8], deadline: Deadline = NO_DEADLINE, trace: Trace = NO_TRACE
    ) -> concurrent.futures.Future[Scored]:
        """Queue a clip.

        Args:
            clip: ``uint8[T, S, S, 3]`` as the scorer's spec says.
            deadline: When its score is of no use any more.
            trace: That of its request.

        Returns:
            A future of the result; it raises what the scorer raises, or `Problem` once the deadline has passed.

        Raises:
            Problem: The queue is full, or the clip would be scored too late.
        """
        with self._changed:
            deadline.admit(self._expected_s())
            return self._put(_Waiting(clip, None, concurrent.futures.Future(), time.perf_counter(), deadline, trace))

    def call(
        self, function: Callable[[], Any], *, patience_s: float = 0.0, trace: Trace = NO_TRACE
    ) -> concurrent.futures.Future[Any]:
        """Queue a function for the thread that owns the scorer.

        Args:
            function: Called without arguments.
            patience_s: Seconds to wait for a place in the queue.
            trace: That of its request.

        Raises:
            Problem: The queue is full.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._queue) < self._capacity, patience_s)
            waiting = _Waiting(None, function, concurrent.futures.Future(), time.perf_counter(), trace=trace)
            return self._put(waiting)

    def close(self) -> None:
        """Finish what is queued, and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _put(self, waiting: _Waiting) -> concurrent.futures.Future[Any]:
        if self._closed:
            raise busy("the gateway is shutting down", retry_after_s=5)
        if len(self._queue) >= self._capacity:
            after_s = retry_after_s(self._expected_s())
            raise busy(f"{self._capacity} clips are waiting to be scored already", retry_after_s=after_s)
        self._queue.append(waiting)
        self._changed.notify_all()
        return waiting.future

    def _expected_s(self) -> float:
        """What is left of the work in progress, then what waits, and the clip itself in the last batch.

        An idle scorer is expected to take no time: whatever the measurements say, the next one may differ. While a
        batch takes longer than expected, what waits is expected to take longer by the same factor.
        """
        if self._in_work is None and not self._queue:
            return 0.0
        usual = passed = 0.0
        if self._in_work is not None:
            size, since = self._in_work
            usual, passed = self._times.expect(size), time.perf_counter() - since
        slowdown = max(1.0, passed / usual) if usual else 1.0
        calls = sum(1 for waiting in self._queue if waiting.clip is None)
        full, rest = divmod(len(self._queue) - calls, self._batch)
        queued = calls * self._times.expect(_CALL) if calls else 0.0
        queued += full * self._times.expect(self._batch) + self._times.expect(rest + 1)
        return max(0.0, usual - passed) + slowdown * queued

    def _work(self) -> None:
        while (batch := self._next_batch()) is not None:
            clips = [waiting for waiting in batch if waiting.clip is not None]
            self._score([waiting for waiting in clips if waiting.future.set_running_or_notify_cancel()])
            for waiting in batch:
                self._run(waiting)

    def _next_batch(self) -> list[_Waiting] | None:
        """Wait for a clip or a call, and take what else is queued; ``None`` at the end."""
        with self._changed:
            self._in_work = None
            batch: list[_Waiting] = []
            while not batch:
                self._changed.wait_for(lambda: self._queue or self._closed)
                if not self._queue:
                    return None
                while self._queue and self._has_room(batch):
                    self._take(batch)
            self._in_work = (_CALL if batch[0].clip is None else len(batch), time.perf_counter())
            self._changed.notify_all()
            return batch

    def _has_room(self, batch: list[_Waiting]) -> bool:
        """Whether one more clip leaves those in the batch in time."""
        if not batch:
            return True
        spare_s = min(waiting.deadline.remaining_s for waiting in batch) - self._times.expect(len(batch) + 1)
        return len(batch) < self._batch and batch[-1].call is None and spare_s > 0

    def _take(self, batch: list[_Waiting]) -> None:
        """Move the first in the queue to the batch, unless it cannot be scored in time.

        The last that waits is tried if it has any time: a measurement that is out of date is so replaced.
        """
        waiting = self._queue.popleft()
        needed_s = self._times.expect(len(batch) + 1) if batch or self._queue else 0.0
        if waiting.deadline.remaining_s > needed_s:
            batch.append(waiting)
        elif waiting.future.set_running_or_notify_cancel():
            waiting.future.set_exception(waiting.deadline.exceeded())

    def _run(self, waiting: _Waiting) -> None:
        if waiting.call is None or not waiting.future.set_running_or_notify_cancel():
            return
        started = time.perf_counter()
        try:
            with self._tracing.batch([waiting.trace]):
                found = waiting.call()
            waiting.future.set_result(found)
        except BaseException as error:
            waiting.future.set_exception(error)
        self._times.record(_CALL, time.perf_counter() - started)

    def _score(self, batch: list[_Waiting]) -> None:
        if not batch:
            return
        started = time.perf_counter()
        try:
            clips = np.stack([waiting.clip for waiting in batch if waiting.clip is not None])
            with self._tracing.batch([waiting.trace for waiting in batch]):
                probabilities = self.scorer.score(clips)[:, 1]
        except BaseException as error:
            for waiting in batch:
                waiting.future.set_exception(error)
            return
        took = time.perf_counter() - started
        self._times.record(len(batch), took)
        if self._on_batch:
            self._on_batch(len(batch), took)
        for waiting, probability in zip(batch, probabilities, strict=True):
            waited_ms = (started - waiting.since) * 1000
            waiting.future.set_result(Scored(float(probability), len(batch), waited_ms, took * 1000))
