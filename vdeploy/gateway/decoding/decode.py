"""Decode one file into messages, inside a confined process."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import cv2

from vdeploy.core.errors import ClipError, SourceError
from vdeploy.gateway.decoding.job import Job
from vdeploy.timeline.sampling import VideoSampler
from vdeploy.video.arrival_sampling import ArrivalSampler
from vdeploy.video.clips import read_clip
from vdeploy.video.live_reader import LiveReader
from vdeploy.video.reader import OversizedFrameError, VideoReader
from vdeploy.video.workers.live_task import send_samples

if TYPE_CHECKING:
    from vdeploy.timeline.windows import WindowPlan
    from vdeploy.video.live_reader import LiveInput
    from vdeploy.video.workers.messages import Channel, Request

__all__ = ["run"]


class _Refused(Exception):  # noqa: N818  an answer, not a failure
    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def run(request: Request, channel: Channel) -> None:
    """Write the frames of a file, or why there are none, as messages.

    Args:
        request: The file and its limits.
        channel: Where to write.
    """
    job = Job.from_request(request)
    try:
        if job.live:
            found = _live(job, job.live, channel)
        else:
            _check_header(job)
            found = _clip(job, channel) if job.plan is None else _samples(job, job.plan, channel)
        channel.send({"end": True, **found})
    except _Refused as refusal:
        _refuse(channel, refusal.code, str(refusal))
    except OversizedFrameError as error:
        _refuse(channel, "resolution_too_high", error.reason)
    except ClipError as error:
        _refuse(channel, "unreadable_video", error.reason)
    except SourceError as error:
        _refuse(channel, "camera_unavailable", error.message)
    except (MemoryError, cv2.error):
        _refuse(channel, "too_expensive", "needs more memory to decode than is allowed")


def _refuse(channel: Channel, code: str, reason: str) -> None:
    channel.send({"end": True, "code": code, "reason": reason})


def _clip(job: Job, channel: Channel) -> dict[str, object]:
    clip = read_clip(Path(job.source), job.spec, max_pixels=job.limits.pixels)
    _check_count(job, clip.decoded_frames, clip.fps)
    channel.send({}, clip.frames)
    return {"frames": clip.decoded_frames, "fps": clip.fps, "warnings": list(clip.warnings)}


def _samples(job: Job, plan: WindowPlan, channel: Channel) -> dict[str, object]:
    sampler = VideoSampler(Path(job.source), plan, job.spec.size, max_pixels=job.limits.pixels, fit=job.spec.fit)
    for index, frame in sampler:
        _check_count(job, sampler.decoded_frames, 0.0)
        _check_duration(job, sampler.duration_s)
        channel.send({"index": index}, frame)
    return {
        "frames": sampler.decoded_frames,
        "duration_s": sampler.duration_s,
        "expected_s": sampler.expected_s,
        "warnings": list(sampler.warnings),
    }


def _live(job: Job, source: LiveInput, channel: Channel) -> dict[str, object]:
    begun_s = time.monotonic()
    with LiveReader(source, max_pixels=job.limits.pixels) as reader:
        sampler = ArrivalSampler(job.plan.sampled_fps if job.plan else 1.0)
        send_samples(reader, sampler, job.spec.size, channel, job.spec.fit)
    return {"duration_s": time.monotonic() - begun_s, "expected_s": 0.0}


def _check_header(job: Job) -> None:
    """Refuse early what the container itself states; frames are checked again as they are decoded."""
    with VideoReader(Path(job.source), threading.Event()) as reader:
        width, height, count, fps = reader.width, reader.height, reader.frame_count, reader.fps
    if width * height > job.limits.pixels:
        raise _Refused(
            "resolution_too_high", f"has frames of {width:.0f} x {height:.0f} pixels; {job.limits.pixels} are allowed"
        )
    _check_count(job, count, fps)


def _check_count(job: Job, count: float, fps: float) -> None:
    if count > job.limits.frames:
        raise _Refused("too_many_frames", f"has {count:.0f} frames; {job.limits.frames} are allowed")
    if fps > 0:
        _check_duration(job, count / fps)


def _check_duration(job: Job, seconds: float) -> None:
    if seconds > job.limits.duration_s:
        raise _Refused("video_too_long", f"is {seconds:.0f} s long; {job.limits.duration_s:g} s are allowed")
