"""Task of decoder processes: the frames of a video that a plan samples."""

from __future__ import annotations

from pathlib import Path

from vdeploy.timeline.sampling import VideoSampler
from vdeploy.timeline.windows import WindowPlan
from vdeploy.video.workers.answers import refusing
from vdeploy.video.workers.messages import Channel, Heartbeat, Request

__all__ = ["run"]


def run(request: Request, channel: Channel) -> None:
    """Send each sampled frame with its number; the last message holds what is known of the whole video.

    Args:
        request: The file; its arguments are the plan, the size of a frame in pixels, and how a picture becomes one.
        channel: Where to send them.
    """
    with refusing(channel):
        plan = WindowPlan(**request.arguments["plan"])
        size, fit = request.arguments["size"], request.arguments["fit"]
        sampler = VideoSampler(Path(request.source), plan, size, Heartbeat(channel), fit=fit)
        for index, frame in sampler:
            channel.send({"index": index}, frame)
        values = {
            "duration_s": sampler.duration_s,
            "expected_s": sampler.expected_s,
            "warnings": list(sampler.warnings),
        }
        channel.send({"end": True, **values})
