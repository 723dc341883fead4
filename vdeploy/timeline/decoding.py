"""Many videos decoded in threads, ahead of whoever consumes their frames, but no farther than a bounded queue."""

from __future__ import annotations

import concurrent.futures
import contextlib
import queue
import threading
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from vdeploy.core.errors import ClipError
from vdeploy.timeline.sampling import VideoSampler
from vdeploy.timeline.sliding import Sample
from vdeploy.video.opencv_threads import one_opencv_thread
from vdeploy.video.reader import Stopped

if TYPE_CHECKING:
    from vdeploy.timeline.windows import WindowPlan

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
    paths: Sequence[Path], plan: WindowPlan, size: int, *, workers: int = 2, ahead: int = 64
) -> Generator[Sample[int] | EndOfVideo, None, None]:
    """Decodes several videos at a time.

    Closing the generator stops the decoders within a frame or two and leaves no thread behind.

    Args:
        paths: Video files.
        plan: When frames are sampled.
        size: Height and width of a sampled frame in pixels.
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

    def decode(stream: int) -> None:
        try:
            try:
                sampler = VideoSampler(paths[stream], plan, size, stop)
                for index, frame in sampler:
                    put(Sample(stream, index, frame))
            except ClipError as error:
                put(EndOfVideo(stream, 0.0, 0.0, error))
            else:
                put(EndOfVideo(stream, sampler.duration_s, sampler.expected_s, warnings=sampler.warnings))
        except Stopped:
            pass
        except BaseException as error:
            put(error)

    pool = concurrent.futures.ThreadPoolExecutor(workers, thread_name_prefix="video-decoder")
    with one_opencv_thread():
        try:
            for stream in range(len(paths)):
                pool.submit(decode, stream)
            ended = 0
            while ended < len(paths):
                item = waiting.get()
                if isinstance(item, BaseException):
                    raise item
                ended += isinstance(item, EndOfVideo)
                yield item
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
