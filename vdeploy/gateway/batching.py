"""A thread that owns the scorer and scores waiting clips in batches."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import queue
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from vdeploy.gateway.problems import busy

if TYPE_CHECKING:
    import numpy.typing as npt

    from vdeploy.inference.scorer import Scorer

__all__ = ["Batcher", "Scored"]


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


class Batcher:
    """Scores the clips of many requests in few calls.

    No clip waits for others to arrive: all that were queued while a batch was scored make the next batch.

    Args:
        scorer: Called from one thread only.
        batch: Largest number of clips in a call.
        capacity: Clips and calls that may wait.
        on_batch: Called with the number of clips of each batch and the seconds that it took.
    """

    def __init__(
        self,
        scorer: Scorer,
        *,
        batch: int = 8,
        capacity: int = 64,
        on_batch: Callable[[int, float], None] | None = None,
    ) -> None:
        self.scorer = scorer
        self._batch = batch
        self._on_batch = on_batch
        self._queue: queue.Queue[_Waiting | None] = queue.Queue(capacity)
        self._closed = self._ending = False
        self._thread = threading.Thread(target=self._work, name="gateway-scorer", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Clips and calls in the queue."""
        return self._queue.qsize()

    def submit(self, clip: npt.NDArray[np.uint8]) -> concurrent.futures.Future[Scored]:
        """Queue a clip.

        Args:
            clip: ``uint8[T, S, S, 3]`` as the scorer's spec says.

        Returns:
            A future of the result; it raises what the scorer raises.

        Raises:
            Problem: The queue is full.
        """
        return self._put(clip, None)

    def call(self, function: Callable[[], Any], *, patience_s: float = 0.0) -> concurrent.futures.Future[Any]:
        """Queue a function for the thread that owns the scorer.

        Args:
            function: Called without arguments.
            patience_s: Seconds to wait for a place in the queue.

        Raises:
            Problem: The queue is full.
        """
        return self._put(None, function, patience_s)

    def close(self) -> None:
        """Finish what is queued, and end the thread."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
            self._thread.join()

    def _put(
        self, clip: npt.NDArray[np.uint8] | None, call: Callable[[], Any] | None, patience_s: float = 0.0
    ) -> concurrent.futures.Future[Any]:
        if self._closed:
            raise busy("the gateway is shutting down", retry_after_s=5)
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        try:
            waiting = _Waiting(clip, call, future, time.perf_counter())
            self._queue.put(waiting, block=patience_s > 0, timeout=patience_s or None)
        except queue.Full:
            raise busy(f"{self._queue.maxsize} clips are waiting to be scored already") from None
        return future

    def _work(self) -> None:
        while (batch := self._next_batch()) is not None:
            clips = [waiting for waiting in batch if waiting.clip is not None]
            self._score([waiting for waiting in clips if waiting.future.set_running_or_notify_cancel()])
            for waiting in batch:
                self._run(waiting)

    def _next_batch(self) -> list[_Waiting] | None:
        """Wait for a clip or a call, and take what else is queued; ``None`` at the end."""
        if self._ending or (first := self._queue.get()) is None:
            return None
        batch = [first]
        while batch[-1].call is None and len(batch) < self._batch:
            try:
                following = self._queue.get_nowait()
            except queue.Empty:
                break
            if following is None:
                self._ending = True
                break
            batch.append(following)
        return batch

    def _run(self, waiting: _Waiting) -> None:
        if waiting.call is None or not waiting.future.set_running_or_notify_cancel():
            return
        try:
            waiting.future.set_result(waiting.call())
        except BaseException as error:
            waiting.future.set_exception(error)

    def _score(self, batch: list[_Waiting]) -> None:
        if not batch:
            return
        started = time.perf_counter()
        try:
            clips = np.stack([waiting.clip for waiting in batch if waiting.clip is not None])
            probabilities = self.scorer.score(clips)[:, 1]
        except BaseException as error:
            for waiting in batch:
                waiting.future.set_exception(error)
            return
        took = time.perf_counter() - started
        if self._on_batch:
            self._on_batch(len(batch), took)
        for waiting, probability in zip(batch, probabilities, strict=True):
            waited_ms = (started - waiting.since) * 1000
            waiting.future.set_result(Scored(float(probability), len(batch), waited_ms, took * 1000))
