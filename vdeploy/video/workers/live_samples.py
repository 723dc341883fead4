"""A live source that a worker process opens, decodes and samples."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from vdeploy.core.errors import SourceError
from vdeploy.video.live_reader import LIVE_HINT
from vdeploy.video.reader import Stopped
from vdeploy.video.workers.answers import raise_source_refusal
from vdeploy.video.workers.limits import DecodingLimits
from vdeploy.video.workers.message_reader import Message
from vdeploy.video.workers.messages import Request
from vdeploy.video.workers.pool import camera_workers, workers
from vdeploy.video.workers.process import DecoderError

if TYPE_CHECKING:
    import numpy.typing as npt

    from vdeploy.video.arrival_sampling import ArrivalSampler
    from vdeploy.video.live_reader import LiveInput
    from vdeploy.video.pictures import Fit

__all__ = ["LiveSample", "open_live"]

_SILENCE_S = 20.0
"""A decoder that says nothing for this long hangs, and is ended; to open a source takes 16 s at most."""


@dataclasses.dataclass(frozen=True, eq=False)
class LiveSample:
    """A sampled frame of a live source.

    Attributes:
        index: Its number, by the time at which it arrived.
        arrived_s: When it arrived, on the clock of `time.monotonic`.
        frame: ``uint8[size, size, 3]`` RGB.
        dropped: Sampled frames before it that were dropped, as this process was too slow.
    """

    index: int
    arrived_s: float
    frame: npt.NDArray[np.uint8]
    dropped: int


@contextlib.contextmanager
def open_live(
    source: LiveInput, sampler: ArrivalSampler, size: int, stop: threading.Event, fit: Fit = "squeeze"
) -> Iterator[Iterator[LiveSample]]:
    """Hold a live source open for the duration of the block, in a process that it has to itself.

    The process can reach the network if the source is an address, and no file; a device it can open, and nothing else.

    Args:
        source: What is opened.
        sampler: Which frames are taken; goes on where it stood.
        size: Height and width of a frame in pixels.
        stop: Set to give up.
        fit: How a picture becomes a square.

    Yields:
        The sampled frames as they arrive, until the source ends.

    Raises:
        SourceError: Nothing that can be decoded comes from there, or it ends its decoder; from the iterator too.
        Stopped: ``stop`` was set; from the iterator too.
        UserError: No decoder can be started.
    """

    def check() -> None:
        if stop.is_set():
            raise Stopped

    arguments = {
        "input": dataclasses.asdict(source),
        "sampled_fps": sampler.sampled_fps,
        "origin_s": sampler.origin_s,
        "size": size,
        "fit": fit,
    }
    limits = DecodingLimits.for_own_files()
    request = Request("live", source.target, limits, arguments, largest=size * size * 3)
    pool = camera_workers if "://" in source.target else workers
    with pool.borrow() as process:
        messages = _messages(source.name, process.run(request, check, silence_s=_SILENCE_S), check)
        next(messages)
        yield _samples(source.name, messages, sampler, size)


def _messages(name: str, answer: Iterator[Message], check: Callable[[], None]) -> Iterator[Message]:
    try:
        for message in answer:
            check()
            raise_source_refusal(name, message.values)
            yield message
    except DecoderError as error:
        raise SourceError(f"{name} cannot be decoded: its decoder {error}", LIVE_HINT) from error


def _samples(name: str, messages: Iterator[Message], sampler: ArrivalSampler, size: int) -> Iterator[LiveSample]:
    """The frames in the messages; what a process that has been taken over may send is brought into bounds."""
    for values, payload in messages:
        if values.get("end"):
            return
        now_s = time.monotonic()
        try:
            arrived_s, dropped = min(float(values["arrived_s"]), now_s), max(int(values["dropped"]), 0)
            if sampler.origin_s is None:
                sampler.origin_s = min(float(values["origin_s"]), arrived_s)
            index = sampler.take(arrived_s)
            frame = np.frombuffer(payload, np.uint8).reshape(size, size, 3)
        except (KeyError, OverflowError, TypeError, ValueError):
            raise SourceError(f"{name} cannot be decoded: its decoder sent no frame", LIVE_HINT) from None
        if index is not None:
            yield LiveSample(index, arrived_s, frame, dropped)
