"""One video or camera that is watched in the background, and the notices that its readers get."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import json
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, Literal

from vdeploy.gateway.logs import log_event
from vdeploy.gateway.problems import Problem, unavailable
from vdeploy.gateway.reporter import Cancelled, Reporter

if TYPE_CHECKING:
    from vdeploy.gateway.metrics import Metrics
    from vdeploy.gateway.models import ServedModel
    from vdeploy.gateway.router import Router

__all__ = ["State", "Stream", "Work", "encode_event"]

State = Literal["running", "finished", "failed", "cancelled"]

Work = Callable[["ServedModel", Reporter], bool]
"""What a stream does, in a thread; returns whether it goes on with the model that has replaced this one."""

_KEPT_NOTICES = 20_000
_HEARTBEAT_SECONDS = 15.0


class Stream:
    """One video or camera that is watched. Used by one event loop.

    Args:
        owner: Name of the key that may read it; empty where there are no keys.
        idle_s: Seconds without a reader after which it is cancelled; ``None`` for never.

    Attributes:
        id: A random identifier.
        owner: Name of the key that may read it.
        state: ``running``, or how it ended.
        readers: Requests that read its events.
        ended: When it ended, on the monotonic clock; infinite while it runs.
    """

    def __init__(self, owner: str, idle_s: float | None = None) -> None:
        self.id = secrets.token_hex(12)
        self.owner = owner
        self.state: State = "running"
        self.readers = 0
        self.ended = float("inf")
        self._idle_s = idle_s
        self._last_read = time.monotonic()
        self._notices: list[bytes] = []
        self._dropped = 0
        self._changed = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._reporter = Reporter(lambda kind, data: _post(loop, self._add, kind, data))

    def cancel(self, reason: str = "") -> None:
        """End the work at its next frame, or while it waits for one."""
        self._reporter.cancel(reason)

    def cancel_if_idle(self) -> None:
        """Cancel a stream that nobody has read for too long."""
        if self._idle_s is None or self.readers or self.state != "running":
            return
        if time.monotonic() - self._last_read > self._idle_s:
            self.cancel(f"no reader for {self._idle_s:g} s")

    async def run(
        self, work: Work, *, router: Router, metrics: Metrics, threads: concurrent.futures.Executor, request_id: str
    ) -> None:
        """Run the stream's work in a thread, to its end.

        Args:
            work: Called with the model and the stream's reporter.
            router: Chooses the model, and again where the work goes on with another one.
            metrics: Counts verdicts and failures.
            threads: Where the work runs.
            request_id: Of the request that began the stream.
        """
        state: State = "failed"
        end: dict[str, Any] = {}
        try:
            goes_on = True
            while goes_on:
                with router.lease(request_id) as model:
                    goes_on = await asyncio.get_running_loop().run_in_executor(threads, work, model, self._reporter)
            metrics.verdicts.labels(model.version).inc()
            state = "finished"
        except Cancelled as cancelled:
            state = "cancelled"
            end = {"reason": cancelled.reason} if cancelled.reason else {}
        except Problem as problem:
            self._add("error", problem.to_dict(request_id))
        except Exception as error:
            metrics.failures.inc()
            log_event("unexpected_error", level=logging.ERROR, error=error, request_id=request_id)
            answer = unavailable("internal_error", "an unexpected error occurred")
            self._add("error", answer.to_dict(request_id))
        finally:
            self.state, self.ended = state, time.monotonic()
            self._add("end", {"state": state, **end})

    async def read(self, after: int) -> AsyncIterator[bytes]:
        """Server-sent events from a position on, until the stream ends.

        Args:
            after: Number of the last notice that the reader has.

        Yields:
            Encoded notices; a comment every 15 s while there are none.
        """
        beat = time.monotonic()
        while True:
            fresh = self._notices[max(after - self._dropped, 0) :]
            after = max(after, self._dropped)
            for notice in fresh:
                after += 1
                yield notice
            self._last_read = time.monotonic()
            if self.state != "running" and after >= self._dropped + len(self._notices):
                return
            if fresh:
                continue
            self._changed.clear()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._changed.wait(), 1.0)
                continue
            if time.monotonic() - beat > _HEARTBEAT_SECONDS:
                beat = time.monotonic()
                yield b": still there\n\n"

    def _add(self, kind: str, data: dict[str, Any]) -> None:
        if len(self._notices) >= _KEPT_NOTICES:
            half = _KEPT_NOTICES // 2
            del self._notices[:half]
            self._dropped += half
        self._notices.append(encode_event(self._dropped + len(self._notices) + 1, kind, data))
        self._changed.set()


def encode_event(number: int, kind: str, data: dict[str, Any]) -> bytes:
    """One server-sent event.

    Args:
        number: Its id; a reader that lost the connection continues after it.
        kind: ``window``, ``event``, ``timeline``, ``lost``, ``error`` or ``end``.
        data: JSON-ready.
    """
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
    return f"id: {number}\nevent: {kind}\ndata: {text}\n\n".encode()


def _post(loop: asyncio.AbstractEventLoop, function: Callable[..., None], *args: Any) -> None:
    try:
        loop.call_soon_threadsafe(function, *args)
    except RuntimeError:
        raise Cancelled("the gateway has ended") from None
