"""Decode a camera into messages, inside a confined process."""

from __future__ import annotations

import select
import time
from typing import TYPE_CHECKING

from vdeploy.live.source import parse_source
from vdeploy.video.arrival_sampling import ArrivalSampler

if TYPE_CHECKING:
    from vdeploy.gateway.decoding.job import Job
    from vdeploy.video.workers.messages import Channel

__all__ = ["watch_live"]


def watch_live(job: Job, channel: Channel) -> dict[str, object]:
    """Write sampled frames as they arrive, until the camera ends.

    The plan's rate divides a second into equal parts; the first frame that arrives in each part is kept. Frames for
    which the reader is too slow are dropped.

    Args:
        job: The camera, with a plan.
        channel: Where to write.

    Returns:
        Fields of the last message.

    Raises:
        SourceError: It cannot be opened.
    """
    sampler = ArrivalSampler(job.plan.sampled_fps if job.plan else 1.0)
    origin_s = time.monotonic()
    dropped = 0
    with parse_source(job.source).open() as reader:
        while reader.grab():
            index = sampler.take(time.monotonic())
            if index is None:
                continue
            if not select.select([], [channel.out], [], 0)[1]:
                dropped += 1
                continue
            frame = reader.retrieve(job.spec.size)
            if frame is not None:
                channel.send({"index": index, "dropped": dropped}, frame)
    return {"duration_s": time.monotonic() - origin_s, "expected_s": 0.0}
