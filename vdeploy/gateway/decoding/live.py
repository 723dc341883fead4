"""A camera into messages, inside a confined process."""

from __future__ import annotations

import select
import time
from typing import BinaryIO

import cv2

from vdeploy.gateway.decoding.job import Job, write_message
from vdeploy.live.source import parse_source
from vdeploy.video.reader import resize

__all__ = ["watch_live"]


def watch_live(job: Job, out: BinaryIO) -> dict[str, object]:
    """Writes sampled frames as they arrive until nothing comes any more.

    The first frame in each part of a second that the plan's rate gives is kept, by its time of arrival. Frames that the
    reader is too slow for are dropped.

    Args:
        job: The camera, with a plan.
        out: Where to write.

    Returns:
        Fields of the last message.

    Raises:
        SourceError: It cannot be opened.
    """
    fps = job.plan.sampled_fps if job.plan else 1.0
    source = parse_source(job.source)
    capture = source.open()
    origin = time.monotonic()
    last, dropped = -1, 0
    while capture.grab():
        index = int((time.monotonic() - origin) * fps)
        if index <= last:
            continue
        last = index
        if not select.select([], [out], [], 0)[1]:
            dropped += 1
            continue
        done, picture = capture.retrieve()
        if not done:
            continue
        frame = cv2.cvtColor(resize(picture, job.spec.size), cv2.COLOR_BGR2RGB)
        write_message(out, {"index": index, "dropped": dropped}, frame.tobytes())
    capture.release()
    return {"duration_s": time.monotonic() - origin, "expected_s": 0.0}
