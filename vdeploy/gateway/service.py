"""The parts of one gateway, closed together."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from vdeploy.evaluation.drift_metrics import DriftCollector
from vdeploy.gateway.deadlines import NO_DEADLINE, Deadline
from vdeploy.gateway.decoding.answers import DecodedClip
from vdeploy.gateway.decoding.job import Job
from vdeploy.gateway.decoding.pool import DecoderPool
from vdeploy.gateway.problems import Problem, unavailable
from vdeploy.gateway.readiness import SharedProbe, probe_video
from vdeploy.gateway.spool import writing_to_spool
from vdeploy.gateway.streams import Streams

if TYPE_CHECKING:
    from starlette.requests import Request

    from vdeploy.gateway.access import Access
    from vdeploy.gateway.limits import Limits
    from vdeploy.gateway.metrics import Metrics
    from vdeploy.gateway.router import Router
    from vdeploy.gateway.traces import Tracing
    from vdeploy.video.clips import ClipSpec

__all__ = ["Service"]

_POLL_S = 0.5
"""Seconds between two looks at the connection of a client that waits."""

_R = TypeVar("_R")


@dataclasses.dataclass(eq=False, repr=False)
class Service:
    """The parts of one gateway, and the thread pool of its requests.

    Attributes:
        router: Chooses the model of each request.
        limits: What is accepted.
        access: Admits callers.
        metrics: Counts what happens.
        decoders: Decode the videos of requests.
        stream_decoders: Decode the videos of streams.
        folder: Holds uploads while they are in use.
        cameras: Addresses of cameras that clients may have watched, by name.
        tracing: Records requests.
        streams: What is watched in the background.
        is_draining: Whether the gateway is shutting down.
    """

    router: Router
    limits: Limits
    access: Access
    metrics: Metrics
    decoders: DecoderPool
    stream_decoders: DecoderPool
    folder: Path
    cameras: Mapping[str, str]
    tracing: Tracing
    streams: Streams = dataclasses.field(init=False)
    is_draining: bool = dataclasses.field(default=False, init=False)

    def __post_init__(self) -> None:
        limits, router, access, metrics = self.limits, self.router, self.access, self.metrics
        self.streams = Streams(limits, router, metrics)
        self._probe = SharedProbe(self._probe_all)
        self._probe_video = probe_video()
        self._threads = concurrent.futures.ThreadPoolExecutor(limits.requests, thread_name_prefix="request")
        metrics.register(DriftCollector("vdeploy_gateway", lambda: router.models))
        metrics.gauge("requests_in_work", "Requests in progress.", lambda: access.inside)
        metrics.gauge("streams", "Streams that run.", lambda: self.streams.running)
        metrics.gauge("event_readers", "Requests that read events.", lambda: self.streams.readers)
        metrics.gauge("waiting_clips", "Clips that wait for the scorer.", lambda: router.primary.batcher.waiting)
        metrics.gauge("decoders", "Living decoder processes.", self._living_decoders)

    async def while_connected(
        self,
        request: Request,
        function: Callable[[Callable[[], None]], _R],
        *,
        deadline: Deadline = NO_DEADLINE,
    ) -> _R:
        """Run what blocks in one of the threads of requests, as long as the client waits for it.

        Args:
            request: Its body has been read.
            function: Called with a check that raises once the client has disconnected or the deadline has passed.
            deadline: When the result is of no use any more.
        """
        gone = threading.Event()

        def check() -> None:
            if gone.is_set():
                raise Problem(400, "disconnected", "the client has disconnected")
            deadline.check()

        work = asyncio.get_running_loop().run_in_executor(self._threads, function, check)
        try:
            while not (await asyncio.wait({work}, timeout=_POLL_S))[0]:
                if await request.is_disconnected():
                    gone.set()
        finally:
            gone.set()
        return work.result()

    async def decode(
        self, request: Request, path: Path, spec: ClipSpec, owner: str, deadline: Deadline = NO_DEADLINE
    ) -> DecodedClip:
        """Decode the frames of one clip.

        Args:
            request: Sent the clip; its body has been read.
            path: The file.
            spec: Number and size of the frames.
            owner: Name of the key that sent it.
            deadline: When its frames are of no use any more.

        Raises:
            Problem: It cannot be decoded within its limits, or no decoder is free in time.
        """
        started = time.perf_counter()
        job = Job(str(path), spec, self.limits.decoding)
        try:
            with request.state.trace.span("decode"):
                return await self.while_connected(
                    request, lambda check: self.decoders.clip(job, owner=owner, check=check), deadline=deadline
                )
        finally:
            self.metrics.decoding_seconds.observe(time.perf_counter() - started)

    async def check_ready(self) -> None:
        """Return if a request would be answered.

        Raises:
            Problem: It would not.
        """
        if self.is_draining:
            raise unavailable("draining", "the gateway is shutting down")
        await self._probe.check()

    def drain(self) -> None:
        """Finish the requests in progress, and end the streams."""
        self.is_draining = True
        self.streams.drain()

    def close(self) -> None:
        """End all processes and threads."""
        self.drain()
        self.decoders.close()
        self.stream_decoders.close()
        self.streams.close()
        self._threads.shutdown(wait=True, cancel_futures=True)
        self.router.close()

    async def _probe_all(self) -> None:
        """Decode a video and score it, where requests have not just shown that this works."""
        await asyncio.to_thread(self._probe_decoders)
        await self.router.check()

    def _probe_decoders(self) -> None:
        with contextlib.ExitStack() as stack:
            with writing_to_spool():
                file = stack.enter_context(tempfile.NamedTemporaryFile(dir=self.folder))
                file.write(self._probe_video)
                file.flush()
            try:
                self.decoders.probe(Job(file.name, self.router.primary.scorer.spec, self.limits.decoding))
            except Problem as problem:
                raise unavailable("decoder_failed", f"no video can be decoded: {problem.message}") from problem

    def _living_decoders(self) -> int:
        return len(self.decoders.processes) + len(self.stream_decoders.processes)
