"""Task: decode the frames of a clip."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from vdeploy.video.clips import ClipSpec, read_clip
from vdeploy.video.workers.answers import refusing
from vdeploy.video.workers.messages import Channel, Heartbeat, Request

__all__ = ["run"]


def run(request: Request, channel: Channel) -> None:
    """Send the frames of a clip in one message, which is the last one.

    Args:
        request: The file; its argument is the clip spec, with its views.
        channel: Where to send them.
    """
    with refusing(channel):
        clip = read_clip(Path(request.source), ClipSpec(**request.arguments["spec"]), stop=Heartbeat(channel))
        values = {field.name: getattr(clip, field.name) for field in dataclasses.fields(clip) if field.name != "frames"}
        channel.send({"end": True, **values}, clip.frames)
