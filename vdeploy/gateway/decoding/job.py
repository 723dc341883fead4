"""What the gateway and its decoding processes say to each other.

A job is a line of JSON on the process's standard input. The answer on its standard output is a sequence of messages,
each a line of JSON; a message with ``bytes`` is followed by so many bytes. A message with ``end`` is the last one.
Whatever comes back is checked: a process that decodes a malicious file may have become malicious itself.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import BinaryIO

from training.clips import ClipSpec
from vdeploy.gateway.limits import DecodingLimits

__all__ = ["MAX_LINE_BYTES", "Job", "write_message"]

MAX_LINE_BYTES = 16_384


@dataclasses.dataclass(frozen=True)
class Job:
    """A file to decode.

    Attributes:
        path: The file.
        spec: Number and size of the frames.
        limits: What that may cost.
        sampled_fps: Frames a second to take of a video of any length; ``None`` takes the frames of one clip.
    """

    path: Path
    spec: ClipSpec
    limits: DecodingLimits
    sampled_fps: float | None = None

    def to_line(self) -> bytes:
        """The job as a line of JSON."""
        values = {
            "path": str(self.path),
            "spec": self.spec.to_dict(),
            "limits": self.limits.to_dict(),
            "sampled_fps": self.sampled_fps,
        }
        return json.dumps(values).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Job:
        """Reads what `to_line` wrote."""
        values = json.loads(line)
        return cls(
            Path(values["path"]),
            ClipSpec.from_dict(values["spec"]),
            DecodingLimits(**values["limits"]),
            values["sampled_fps"],
        )


def write_message(out: BinaryIO, payload: memoryview | None = None, **values: object) -> None:
    """Writes one message.

    Args:
        out: The process's standard output.
        payload: Bytes that follow the line.
        values: Fields of the line.
    """
    if payload is not None:
        values["bytes"] = payload.nbytes
    out.write(json.dumps(values).encode() + b"\n")
    if payload is not None:
        out.write(payload)
    out.flush()
