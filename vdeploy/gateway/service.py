"""The parts of one gateway, opened and closed together."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from vdeploy.core.files import staging_folder
from vdeploy.gateway.access import Access
from vdeploy.gateway.decoding.job import Job
from vdeploy.gateway.decoding.pool import BACKGROUND_NICE, DecodedClip, DecoderPool
from vdeploy.gateway.metrics import Metrics
from vdeploy.gateway.models import open_model
from vdeploy.gateway.problems import Problem, unavailable
from vdeploy.gateway.readiness import SharedProbe, probe_video
from vdeploy.gateway.router import Router
from vdeploy.gateway.spool import writing_to_spool
from vdeploy.gateway.streams import Streams

if TYPE_CHECKING:
    from starlette.requests import Request

    from vdeploy.gateway.keys import KeyFile
    from vdeploy.gateway.limits import Limits
    from vdeploy.video.clips import ClipSpec

__all__ = ["Service", "open_service"]

_R = TypeVar("_R")


class Service:
    """The parts of one gateway, and the thread pool of its requests.

    Args:
        router: Chooses the model of each request.
        limits: What is accepted.
        access: Admits callers.
        metrics: Counts what happens.
        decoders: Decode the videos of requests.
        stream_decoders: Decode the videos of streams.
        folder: Holds uploads while they are in use.
        cameras: Addresses of cameras that clients may have watched, by name.

    Attributes:
        router: Chooses the model of each request.
        limits: What is accepted.
        access: Admits callers.
        metrics: Counts what happens.
        decoders: Decode the videos of requests.
        stream_decoders: Decode the videos of streams.
        folder: Holds uploads while they are in use.
        cameras: Addresses of cameras that clients may have watched, by name.
        streams: What is watched in the background.
        is_draining: Whether the gateway is shutting down.
    """

    def __init__(
        self,
        router: Router,
        limits: Limits,
        access: Access,
        metrics: Metrics,
        decoders: DecoderPool,
        stream_decoders: DecoderPool,
        folder: Path,
        cameras: Mapping[str, str],
    ) -> None:
        self.router = router
        self.limits = limits
        self.access = access
        self.metrics = metrics
        self.decoders = decoders
        self.stream_decoders = stream_decoders
        self.folder = folder
        self.cameras = dict(cameras)
        self.streams = Streams(limits, router, metrics)
        self.is_draining = False
        self._probe = SharedProbe(self._probe_all)
        self._probe_video = probe_video()
        self._threads = concurrent.futures.ThreadPoolExecutor(limits.requests, thread_name_prefix="request")
        metrics.gauge("requests_in_work", "Requests in progress.", lambda: access.inside)
        metrics.gauge("streams", "Streams that run.", lambda: self.streams.running)
        metrics.gauge("event_readers", "Requests that read events.", lambda: self.streams.readers)
        metrics.gauge("waiting_clips", "Clips that wait for the scorer.", lambda: router.primary.batcher.waiting)
        metrics.gauge("decoders", "Living decoder processes.", self._living_decoders)

    async def while_connected(
        self, request: Request, function: Callable[[Callable[[], None]], _R], *, poll_s: float = 0.5
    ) -> _R:
        """Run what blocks in one of the threads of requests, as long as the client waits for it.

        Args:
            request: Its body has been read.
            function: Called with a check that raises once the client has disconnected.
            poll_s: Seconds between two looks at the connection.
        """
        gone = threading.Event()

        def check() -> None:
            if gone.is_set():
                raise Problem(400, "disconnected", "the client has disconnected")

        work = asyncio.get_running_loop().run_in_executor(self._threads, function, check)
        try:
            while not (await asyncio.wait({work}, timeout=poll_s))[0]:
                if await request.is_disconnected():
                    gone.set()
        finally:
            gone.set()
        return work.result()

    async def decode(self, request: Request, path: Path, spec: ClipSpec, owner: str) -> DecodedClip:
        """Decode the frames of one clip.

        Args:
            request: Sent the clip; its body has been read.
            path: The file.
            spec: Number and size of the frames.
            owner: Name of the key that sent it.

        Raises:
            Problem: It cannot be decoded within its limits, or no decoder is free in time.
        """
        started = time.perf_counter()
        job = Job(str(path), spec, self.limits.decoding)
        try:
            return await self.while_connected(request, lambda check: self.decoders.clip(job, owner=owner, check=check))
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


@contextlib.contextmanager
def open_service(
    *,
    limits: Limits,
    folder: Path,
    bundle: Path | None = None,
    url: str | None = None,
    format_name: str | None = None,
    canary_bundle: Path | None = None,
    canary_url: str | None = None,
    canary_percent: float = 0.0,
    keys: KeyFile | None = None,
    cameras: Mapping[str, str] | None = None,
) -> Iterator[Service]:
    """Open the parts of a gateway, and close them when the block ends.

    Args:
        limits: What is accepted.
        folder: Where a folder for uploads is created; those of killed gateways are removed.
        bundle: Folder of a bundle to run in this process.
        url: ``HOST:PORT`` of a Triton server's gRPC service.
        format_name: Format of the bundle to run.
        canary_bundle: Folder of the bundle that gets a share of the requests.
        canary_url: Or the server that does.
        canary_percent: That share in percent.
        keys: API keys, of which every request needs one; ``None`` admits everyone.
        cameras: Addresses of cameras that clients may have watched, by name.

    Raises:
        UserError: The model does not work, or the keys cannot be read.
    """
    if keys is not None:
        keys.read()
    metrics = Metrics()
    with contextlib.ExitStack() as stack:
        uploads = stack.enter_context(staging_folder(folder.absolute() / "uploads"))
        uploads.chmod(0o700)
        opening = functools.partial(open_model, limits=limits, on_batch=metrics.on_batch)
        router = Router(
            functools.partial(opening, bundle=bundle, url=url, format_name=format_name),
            functools.partial(opening, bundle=canary_bundle, url=canary_url) if canary_bundle or canary_url else None,
            percent=canary_percent,
            changes=url is not None or canary_url is not None,
        )
        decoders = DecoderPool(
            limits.decoders, share=functools.partial(_share, limits.decoders, keys), on_loss=metrics.losses.inc
        )
        stream_decoders = DecoderPool(
            limits.stream_decoders,
            patience_s=None,
            nice=BACKGROUND_NICE,
            share=functools.partial(_share, limits.stream_decoders, keys),
            on_loss=metrics.losses.inc,
        )
        access = Access(keys, limit=limits.requests, limit_per_key=limits.requests_per_key)
        service = Service(router, limits, access, metrics, decoders, stream_decoders, uploads, cameras or {})
        stack.callback(service.close)
        yield service


def _share(size: int, keys: KeyFile | None) -> int:
    """Decoders that one key may hold: all but one where there are others."""
    return size if keys is None or len(keys.read()) < 2 else max(1, size - 1)
