"""Many videos decoded in processes, ahead of whoever consumes their frames, but no farther than a bounded queue."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import os
import queue
import threading
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from vdeploy.core.errors import ClipError
from vdeploy.timeline.sliding import Sample
from vdeploy.video.file_checks import check_file
from vdeploy.video.reader import Stopped
from vdeploy.video.workers.answers import raise_refusal
from vdeploy.video.workers.limits import DecodingLimits
from vdeploy.video.workers.messages import Request
from vdeploy.video.workers.pool import workers as _pool

if TYPE_CHECKING:
    from vdeploy.timeline.windows import WindowPlan
    from vdeploy.video.pictures import Fit

__all__ = ["EndOfVideo", "sample_videos"]

_POLL_S = 0.2


class EndOfVideo(NamedTuple):
    """A video has been decoded to its end.

    Attributes:
        stream: Its place among the paths.
        duration_s: How long it is, in seconds.
        expected_s: How long it is according to its container; 0 if that says nothing.
        error: Why decoding ended before the first frame, if it did.
        warnings: What is odd about the video.
    """

    stream: int
    duration_s: float
    expected_s: float
    error: ClipError | None = None
    warnings: tuple[str, ...] = ()


def sample_videos(
    paths: Sequence[Path], plan: WindowPlan, size: int, *, fit: Fit = "squeeze", workers: int = 2, ahead: int = 64
) -> Generator[Sample[int] | EndOfVideo, None, None]:
    """Decodes several videos at a time.

    Closing the generator stops the decoders within a frame or two and leaves no thread behind.

    Args:
        paths: Video files.
        plan: When frames are sampled.
        size: Height and width of a sampled frame in pixels.
        fit: How a picture becomes a square.
        workers: Videos that are decoded at a time.
        ahead: Sampled frames that may wait for the consumer, of all videos together.

    Yields:
        Sampled frames, of one video in order, those of several mixed; their streams are places among ``paths``. After
        the frames of a video, its end.
    """
    stop = threading.Event()
    waiting: queue.Queue[Sample[int] | EndOfVideo | BaseException] = queue.Queue(ahead)

    def put(item: Sample[int] | EndOfVideo | BaseException) -> None:
        while not stop.is_set():
            with contextlib.suppress(queue.Full):
                return waiting.put(item, timeout=_POLL_S)
        raise Stopped

    def check() -> None:
        if stop.is_set():
            raise Stopped

    def decode(stream: int) -> None:
        try:
            try:
                with contextlib.closing(_decoded(paths[stream], stream, plan, size, fit, check)) as items:
                    for item in items:
                        put(item)
            except ClipError as error:
                put(EndOfVideo(stream, 0.0, 0.0, error))
        except Stopped:
            pass
        except BaseException as error:
            put(error)

    threads = concurrent.futures.ThreadPoolExecutor(workers, thread_name_prefix="video-decoder")
    try:
        for stream in range(len(paths)):
            threads.submit(decode, stream)
        ended = 0
        while ended < len(paths):
            item = waiting.get()
            if isinstance(item, BaseException):
                raise item
            ended += isinstance(item, EndOfVideo)
            yield item
    finally:
        stop.set()
        threads.shutdown(wait=True, cancel_futures=True)


def _decoded(
    path: Path, stream: int, plan: WindowPlan, size: int, fit: Fit, check: Callable[[], None]
) -> Generator[Sample[int] | EndOfVideo, None, None]:
    """The sampled frames of a video and its end, from a decoder process."""
    check_file(path)
    source = os.path.abspath(path)  # noqa: PTH100  resolve() would follow links
    arguments = {"plan": dataclasses.asdict(plan), "size": size, "fit": fit}
    request = Request("samples", source, DecodingLimits.for_own_files(), arguments, largest=size * size * 3)
    with contextlib.closing(_pool.answer(path, request, check)) as messages:
        for values, payload in messages:
            raise_refusal(path, values)
            if "index" in values and len(payload) == request.largest:
                yield Sample(stream, int(values["index"]), np.frombuffer(payload, np.uint8).reshape(size, size, 3))
            elif values.get("end") and "duration_s" in values:
                warnings = tuple(str(warning) for warning in values["warnings"])
                yield EndOfVideo(stream, float(values["duration_s"]), float(values["expected_s"]), warnings=warnings)
            else:
                raise ClipError(path, "cannot be decoded: its decoder sent something other than frames")
