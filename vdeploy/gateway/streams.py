"""The videos and cameras of a gateway that are watched in the background, and how many there may be."""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from vdeploy.gateway.problems import Problem, busy, too_many_requests
from vdeploy.gateway.stream import Stream, Work

if TYPE_CHECKING:
    from vdeploy.gateway.limits import Limits
    from vdeploy.gateway.metrics import Metrics
    from vdeploy.gateway.router import Router

__all__ = ["Admission", "Streams"]

_KEPT_SECONDS = 300.0
_KEPT_STREAMS_PER_KEY = 32
_SWEEP_SECONDS = 1.0


class Admission:
    """The right to begin one stream; counts until the stream's thread has ended, or until it is not used.

    Args:
        streams: Where the stream is kept.
        owner: Name of the key that may read it.
    """

    def __init__(self, streams: Streams, owner: str) -> None:
        self._streams = streams
        self._owner = owner
        self.is_used = False

    def start(self, work: Work, *, request_id: str, idle_s: float | None = None) -> Stream:
        """Begin the stream.

        Args:
            work: What it does.
            request_id: Of the request that begins it.
            idle_s: Seconds without a reader after which it is cancelled; ``None`` for never.
        """
        self.is_used = True
        return self._streams.run(Stream(self._owner, idle_s), work, request_id)


class Streams:
    """All streams of a gateway. Used by one event loop.

    A stream counts from before its upload until its thread has ended, also after it was deleted. The streams have their
    own threads, so that requests never wait for them.

    Args:
        limits: How many streams and readers there may be.
        router: Chooses the model of each stream.
        metrics: Counts verdicts and failures.
    """

    def __init__(self, limits: Limits, router: Router, metrics: Metrics) -> None:
        self._limits, self._router, self._metrics = limits, router, metrics
        self._streams: dict[str, Stream] = {}
        self._counts: collections.Counter[str] = collections.Counter()
        self._readers: collections.Counter[str] = collections.Counter()
        self._active: dict[asyncio.Task[None], Stream] = {}
        self._is_draining = False
        self._threads = concurrent.futures.ThreadPoolExecutor(limits.streams, thread_name_prefix="stream")

    @property
    def running(self) -> int:
        """Streams that are admitted and have not ended."""
        return self._counts.total()

    @property
    def readers(self) -> int:
        """Requests that read events."""
        return self._readers.total()

    @contextlib.contextmanager
    def admit(self, owner: str) -> Iterator[Admission]:
        """Reserve a stream for the block, or for as long as it runs if the block begins it.

        Args:
            owner: Name of the key that may read it; empty where there are no keys.

        Raises:
            Problem: Too many are running, of this key or of all.
        """
        limits = self._limits
        if self._is_draining:
            raise busy("the gateway is shutting down", retry_after_s=5)
        if owner and self._counts[owner] >= limits.streams_per_key:
            raise too_many_requests(f"{limits.streams_per_key} streams with this key are running already", 10)
        if self.running >= limits.streams:
            raise busy(f"{limits.streams} streams are running already", retry_after_s=10)
        self._counts[owner] += 1
        admission = Admission(self, owner)
        try:
            yield admission
        finally:
            if not admission.is_used:
                self._release(owner)

    def run(self, stream: Stream, work: Work, request_id: str) -> Stream:
        """Run an admitted stream in the background; called by `Admission.start`."""
        self._streams[stream.id] = stream
        running = stream.run(
            work, router=self._router, metrics=self._metrics, threads=self._threads, request_id=request_id
        )
        task = asyncio.get_running_loop().create_task(running)
        self._active[task] = stream
        task.add_done_callback(self._ended)
        if self._is_draining:
            stream.cancel("the gateway is shutting down")
        return stream

    def find(self, stream_id: str, owner: str) -> Stream:
        """The stream with an identifier.

        Raises:
            Problem: There is none, or it has another owner.
        """
        stream = self._streams.get(stream_id)
        if stream is None or stream.owner != owner:
            raise Problem(404, "not_found", "there is no such stream", "begin one with POST /streams")
        return stream

    def end(self, stream: Stream) -> None:
        """Cancel a stream and delete its notices."""
        stream.cancel()
        self._streams.pop(stream.id, None)

    @contextlib.contextmanager
    def reading(self, stream: Stream) -> Iterator[None]:
        """Count a reader of a stream for the duration of the block.

        Raises:
            Problem: There are too many readers, of this key or of all.
        """
        limits, owner = self._limits, stream.owner
        if owner and self._readers[owner] >= limits.readers_per_key:
            raise too_many_requests(f"{limits.readers_per_key} requests with this key are reading events already", 5)
        if self.readers >= limits.readers:
            raise busy(f"{limits.readers} requests are reading events already", retry_after_s=5)
        self._readers[owner] += 1
        stream.readers += 1
        try:
            yield
        finally:
            stream.readers -= 1
            _decrement(self._readers, owner)

    async def keep_swept(self) -> None:
        """Cancel streams without readers and delete old ones, time and again; to be cancelled."""
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            self._sweep()

    def drain(self) -> None:
        """Cancel all streams, end their readers, and admit no more."""
        self._is_draining = True
        for stream in self._active.values():
            stream.cancel("the gateway is shutting down")

    def close(self) -> None:
        """Wait for the threads of all streams; call `drain` first."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        stream = self._active.pop(task)
        self._release(stream.owner)

    def _release(self, owner: str) -> None:
        _decrement(self._counts, owner)

    def _sweep(self) -> None:
        for stream in self._active.values():
            stream.cancel_if_idle()
        ended = [stream for stream in self._streams.values() if stream.state != "running"]
        kept: collections.Counter[str] = collections.Counter()
        for stream in sorted(ended, key=lambda stream: -stream.ended):
            kept[stream.owner] += 1
            is_old = time.monotonic() - stream.ended > _KEPT_SECONDS
            if (is_old or kept[stream.owner] > _KEPT_STREAMS_PER_KEY) and not stream.readers:
                del self._streams[stream.id]


def _decrement(counts: collections.Counter[str], name: str) -> None:
    counts[name] -= 1
    if not counts[name]:
        del counts[name]
