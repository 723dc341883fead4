"""Everything that the routes of one gateway share."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from vdeploy.core.files import staging_folder
from vdeploy.gateway.access import Access
from vdeploy.gateway.decoding.job import Job
from vdeploy.gateway.decoding.pool import DecodedClip, DecoderPool
from vdeploy.gateway.metrics import Metrics
from vdeploy.gateway.models import open_model
from vdeploy.gateway.problems import unavailable
from vdeploy.gateway.router import Router
from vdeploy.gateway.streams import Streams

if TYPE_CHECKING:
    from vdeploy.gateway.keys import KeyFile
    from vdeploy.gateway.limits import Limits
    from vdeploy.video.clips import ClipSpec

__all__ = ["Service", "open_service"]

_P = ParamSpec("_P")
_R = TypeVar("_R")


class Service:
    """What the routes work with.

    Args:
        router: Which model judges.
        limits: What is accepted.
        access: Who is let in.
        metrics: What is counted.
        decoders: What decodes.
        folder: Where uploads are kept while they are worked on.
        cameras: Addresses of cameras that may be watched, by name.

    Attributes:
        router: Which model judges.
        limits: What is accepted.
        access: Who is let in.
        metrics: What is counted.
        decoders: What decodes.
        folder: Where uploads are kept while they are worked on.
        cameras: Addresses of cameras that may be watched, by name.
        streams: What is watched in the background.
        draining: Whether the gateway is about to end.
    """

    def __init__(
        self,
        router: Router,
        limits: Limits,
        access: Access,
        metrics: Metrics,
        decoders: DecoderPool,
        folder: Path,
        cameras: Mapping[str, str],
    ) -> None:
        self.router = router
        self.limits = limits
        self.access = access
        self.metrics = metrics
        self.decoders = decoders
        self.folder = folder
        self.cameras = dict(cameras)
        self.streams = Streams(limits.streams)
        self.draining = False
        self._threads = concurrent.futures.ThreadPoolExecutor(
            limits.requests + limits.streams, thread_name_prefix="gateway"
        )
        metrics.gauge("requests_in_work", "Requests in work.", lambda: access.inside)
        metrics.gauge("streams", "Streams that run.", lambda: self.streams.running)
        metrics.gauge("waiting_clips", "Clips that wait for the scorer.", lambda: router.primary.batcher.waiting)
        metrics.gauge("decoders", "Living decoding processes.", lambda: len(decoders.processes))

    async def in_thread(self, function: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Runs what blocks in one of the gateway's threads."""
        call = functools.partial(function, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    async def decode(self, path: Path, spec: ClipSpec) -> DecodedClip:
        """Decodes the frames of one clip.

        Args:
            path: The file.
            spec: Number and size of the frames.

        Raises:
            Problem: It cannot be decoded within its limits, or no decoder is free in time.
        """
        started = time.perf_counter()
        job = Job(str(path), spec, self.limits.decoding)
        try:
            return await self.in_thread(self.decoders.clip, job)
        finally:
            self.metrics.decoding_seconds.observe(time.perf_counter() - started)

    async def check_ready(self) -> None:
        """Makes sure that a request would be answered.

        Raises:
            Problem: It would not.
        """
        if self.draining:
            raise unavailable("draining", "the gateway is shutting down")
        await self.router.check()

    def close(self) -> None:
        """Ends processes and threads."""
        self.draining = True
        self.decoders.close()
        self.router.close()
        self._threads.shutdown(wait=True, cancel_futures=True)


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
    """Opens everything that a gateway needs, and closes it when the block ends.

    Args:
        limits: What is accepted.
        folder: Where a folder for uploads is made; what killed gateways left there is removed.
        bundle: Folder of a bundle to run in this process.
        url: ``HOST:PORT`` of a Triton server's gRPC service.
        format_name: Which of the bundle's formats to run.
        canary_bundle: Folder of the bundle that gets a share of the requests.
        canary_url: Or the server that does.
        canary_percent: That share, in requests of a hundred.
        keys: Keys of which one is asked for; ``None`` lets everyone in.
        cameras: Addresses of cameras that may be watched, by name.

    Raises:
        UserError: The model does not work, or the keys cannot be read.
    """
    if keys is not None:
        keys.read()
    metrics = Metrics()
    with contextlib.ExitStack() as stack:
        uploads = stack.enter_context(staging_folder(folder / "uploads"))
        uploads.chmod(0o700)
        opening = functools.partial(open_model, limits=limits, on_batch=metrics.on_batch)
        router = Router(
            functools.partial(opening, bundle=bundle, url=url, format_name=format_name),
            functools.partial(opening, bundle=canary_bundle, url=canary_url) if canary_bundle or canary_url else None,
            percent=canary_percent,
            changes=url is not None or canary_url is not None,
        )
        decoders = DecoderPool(limits.decoders, on_loss=metrics.losses.inc)
        access = Access(keys, limit=limits.requests, limit_per_key=limits.requests_per_key)
        service = Service(router, limits, access, metrics, decoders, uploads, cameras or {})
        stack.callback(service.close)
        yield service
