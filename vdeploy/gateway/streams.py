"""Videos and cameras that are watched in the background while their events are read."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import json
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, Literal

from vdeploy.gateway.logs import log_event
from vdeploy.gateway.problems import Problem, busy, unavailable

if TYPE_CHECKING:
    from vdeploy.gateway.models import ServedModel
    from vdeploy.gateway.service import Service
    from vdeploy.gateway.watching import Emit

__all__ = ["Notice", "State", "Stream", "Streams", "Work"]

State = Literal["running", "finished", "failed", "cancelled"]

Work = Callable[["ServedModel", "Emit"], None]
"""What a stream does, in a thread."""

_KEPT_NOTICES = 50_000
_KEPT_SECONDS = 300.0
_HEARTBEAT_SECONDS = 15.0


@dataclasses.dataclass(frozen=True)
class Notice:
    """Something that happened on a stream, as a server-sent event.

    Attributes:
        number: Its place; a reader that lost the connection goes on from there.
        kind: ``window``, ``event``, ``timeline``, ``lost``, ``error`` or ``end``.
        data: JSON-ready.
    """

    number: int
    kind: str
    data: dict[str, Any]

    def encode(self) -> bytes:
        """The notice in the format of server-sent events."""
        data = json.dumps(self.data, separators=(",", ":"), ensure_ascii=False)
        return f"id: {self.number}\nevent: {self.kind}\ndata: {data}\n\n".encode()


class _Cancelled(Exception):  # noqa: N818  no error: nobody wants it any more
    pass


class Stream:
    """One video or camera that is watched. Used by one event loop.

    Args:
        owner: Name of the key that may see it; `None` where there are no keys.

    Attributes:
        id: What it is called, hard to guess.
        owner: Name of the key that may see it.
        state: How far it is.
        ended: When it ended, on the monotonic clock.
    """

    def __init__(self, owner: str | None) -> None:
        self.id = secrets.token_hex(12)
        self.owner = owner
        self.state: State = "running"
        self.ended = float("inf")
        self._notices: collections.deque[Notice] = collections.deque(maxlen=_KEPT_NOTICES)
        self._number = 0
        self._changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._cancelled = False

    def cancel(self) -> None:
        """Gives it up at its next frame or window."""
        self._cancelled = True

    async def watch(self, service: Service, work: Work, request_id: str) -> None:
        """Runs what the stream is there for, in a thread, to its end.

        Args:
            service: What to work with.
            work: Called with the model and with what tells readers something.
            request_id: Of the request that began it.
        """

        def emit(kind: str, data: dict[str, Any]) -> None:
            if self._cancelled or service.draining:
                raise _Cancelled
            if kind:
                self._loop.call_soon_threadsafe(self._add, kind, data)

        state: State = "failed"
        try:
            with service.router.lease(request_id) as model:
                await service.in_thread(work, model, emit)
                service.metrics.verdicts.labels(model.version).inc()
            state = "finished"
        except _Cancelled:
            state = "cancelled"
        except Problem as problem:
            self._add("error", problem.to_dict(request_id))
        except Exception as error:
            service.metrics.failures.inc()
            log_event("unexpected_error", level=logging.ERROR, error=error, request_id=request_id)
            answer = unavailable("internal_error", "something unexpected went wrong")
            self._add("error", answer.to_dict(request_id))
        finally:
            self.state, self.ended = state, time.monotonic()
            self._add("end", {"state": state})

    async def read(self, after: int, service: Service) -> AsyncIterator[bytes]:
        """Server-sent events from a place on, until the stream ends.

        Args:
            after: Number of the last notice that the reader has.
            service: Ends the reading when it is draining.

        Yields:
            Encoded notices, and comments when there is nothing to tell.
        """
        beat = time.monotonic()
        while True:
            fresh = [notice for notice in self._notices if notice.number > after]
            for notice in fresh:
                yield notice.encode()
                after = notice.number
            if (self.state != "running" and after >= self._number) or service.draining:
                return
            if not fresh:
                self._changed.clear()
                try:
                    await asyncio.wait_for(self._changed.wait(), 1.0)
                except asyncio.TimeoutError:
                    if time.monotonic() - beat > _HEARTBEAT_SECONDS:
                        beat = time.monotonic()
                        yield b": still there\n\n"

    def _add(self, kind: str, data: dict[str, Any]) -> None:
        self._number += 1
        self._notices.append(Notice(self._number, kind, data))
        self._changed.set()


class Streams:
    """All streams of a gateway.

    Args:
        limit: Streams that may run at a time.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._streams: dict[str, Stream] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def running(self) -> int:
        """Streams that run."""
        return sum(stream.state == "running" for stream in self._streams.values())

    def check_place(self) -> None:
        """Makes sure that another stream may begin.

        Raises:
            Problem: Too many run.
        """
        if self.running >= self._limit:
            raise busy(f"{self._limit} streams are open already", retry_after_s=10)

    def start(self, service: Service, work: Work, *, owner: str | None, request_id: str) -> Stream:
        """Begins a stream.

        Args:
            service: What to work with.
            work: What to do; see `Stream.watch`.
            owner: Name of the key that may see the stream.
            request_id: Of the request that begins it.
        """
        self._forget()
        stream = Stream(owner)
        self._streams[stream.id] = stream
        task = asyncio.get_running_loop().create_task(stream.watch(service, work, request_id))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return stream

    def find(self, stream_id: str, owner: str | None) -> Stream:
        """A stream.

        Raises:
            Problem: There is none, or it is somebody else's.
        """
        stream = self._streams.get(stream_id)
        if stream is None or stream.owner != owner:
            raise Problem(404, "not_found", "there is no such stream", "begin one with POST /streams")
        return stream

    def end(self, stream: Stream) -> None:
        """Cancels a stream and forgets it."""
        stream.cancel()
        self._streams.pop(stream.id, None)

    def _forget(self) -> None:
        now = time.monotonic()
        for stream in list(self._streams.values()):
            if now - stream.ended > _KEPT_SECONDS:
                del self._streams[stream.id]
