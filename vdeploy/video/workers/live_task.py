"""Task: sample a live source as its frames arrive."""

from __future__ import annotations

import time

from vdeploy.video.arrival_sampling import ArrivalSampler
from vdeploy.video.live_reader import LiveInput, LiveReader
from vdeploy.video.pictures import Fit
from vdeploy.video.workers.answers import refusing
from vdeploy.video.workers.messages import Channel, Heartbeat, Request

__all__ = ["run", "send_samples"]


def run(request: Request, channel: Channel) -> None:
    """Say that the source is open, then send sampled frames as they arrive, until it ends.

    Args:
        request: The source; its arguments are the input, the sampled frames a second, when time began, the size of a
            frame in pixels, and how a picture becomes one.
        channel: Where to send them.
    """
    values = request.arguments
    source = LiveInput(**values["input"])
    with refusing(channel, source.name), LiveReader(source) as reader:
        channel.send({"opened": True})
        sampler = ArrivalSampler(values["sampled_fps"], values["origin_s"])
        send_samples(reader, sampler, values["size"], channel, values["fit"])
        channel.send({"end": True})


def send_samples(
    reader: LiveReader, sampler: ArrivalSampler, size: int, channel: Channel, fit: Fit = "squeeze"
) -> None:
    """Send the sampled frames of a live source; those for which whoever reads them is too slow are dropped.

    Args:
        reader: The source.
        sampler: Which frames to take.
        size: Height and width of a frame in pixels.
        channel: Where to send each, with its number, when it arrived, when time began, and how many were dropped since
            the one before.
        fit: How a picture becomes a square.

    Raises:
        SourceError: A frame has too many pixels.
    """
    heartbeat, dropped = Heartbeat(channel), 0
    while reader.grab():
        arrived_s = time.monotonic()
        index = sampler.take(arrived_s)
        if not channel.has_room:
            dropped += index is not None
        elif index is None:
            heartbeat.beat()
        elif (frame := reader.retrieve(size, fit)) is not None:
            channel.send(
                {"index": index, "arrived_s": arrived_s, "origin_s": sampler.origin_s, "dropped": dropped}, frame
            )
            dropped = 0
