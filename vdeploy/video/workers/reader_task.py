"""Task: hold a video open, and step through it as the program asks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vdeploy.video.reader import VideoReader
from vdeploy.video.workers.answers import refusing
from vdeploy.video.workers.messages import Channel, Heartbeat, Request

__all__ = ["run"]


def run(request: Request, channel: Channel) -> None:
    """Say what the container states; then carry out one command after the other, each of which has one answer.

    Args:
        request: The file.
        channel: Where commands come from: ``["grab"]``, ``["retrieve", SIZE, FIT]``, ``["picture"]``,
            ``["seek", TIME]``, ``["restart"]`` and ``["close"]``, as JSON lines.
    """
    with refusing(channel), VideoReader(Path(request.source), Heartbeat(channel)) as reader:
        facts = {name: getattr(reader, name) for name in ("frame_count", "fps", "duration_s", "width", "height")}
        channel.send({**facts, "warnings": list(reader.warnings)})
        while (line := channel.receive()) and (command := json.loads(line))[0] != "close":
            _execute(command, reader, channel)
        channel.send({"end": True})


def _execute(command: list[Any], reader: VideoReader, channel: Channel) -> None:
    match command:
        case ["grab"]:
            is_there = reader.grab()
            channel.send({"is_there": is_there, "time_us": reader.time_us})
        case ["retrieve", size, fit]:
            channel.send({"shape": [size, size, 3]}, reader.retrieve(size, fit))
        case ["picture"]:
            picture = reader.picture()
            channel.send({"shape": picture.shape}, picture.copy(order="C"))
        case ["seek", time_us]:
            reader.seek(time_us)
            channel.send({})
        case ["restart"]:
            reader.restart()
            channel.send({})
        case _:
            raise ValueError(f"the reader knows no command {command}")
