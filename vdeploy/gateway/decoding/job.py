"""Messages between the gateway and its decoder processes.

A job is a line of JSON on the process's standard input. The answer on its standard output is a sequence of messages,
each a line of JSON; a message with ``bytes`` is followed by so many bytes. A message with ``end`` is the last one.
The gateway checks every message: a malicious file may have taken the process over.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import BinaryIO

from vdeploy.gateway.limits import DecodingLimits
from vdeploy.timeline.windows import WindowPlan
from vdeploy.video.clips import ClipSpec

__all__ = ["MAX_LINE_BYTES", "Job", "write_message"]

MAX_LINE_BYTES = 16_384


@dataclasses.dataclass(frozen=True)
class Job:
    """A source to decode.

    Attributes:
        source: A file; with ``live``, a source as for `vdeploy.live.source.parse_source`.
        spec: Number and size of the frames.
        limits: Of the decoding.
        plan: When frames are sampled from a video of any length; ``None`` decodes the frames of one clip.
        live: Whether it is a camera, which is read as fast as it sends, until it ends.
    """

    source: str
    spec: ClipSpec
    limits: DecodingLimits
    plan: WindowPlan | None = None
    live: bool = False

    def to_line(self) -> bytes:
        """The job as a line of JSON."""
        values = {
            "source": self.source,
            "spec": self.spec.to_dict(),
            "limits": self.limits.to_dict(),
            "plan": dataclasses.asdict(self.plan) if self.plan else None,
            "live": self.live,
        }
        return json.dumps(values).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Job:
        """Read a line that `to_line` has written."""
        values = json.loads(line)
        return cls(
            values["source"],
            ClipSpec.from_dict(values["spec"]),
            DecodingLimits(**values["limits"]),
            WindowPlan(**values["plan"]) if values["plan"] else None,
            values["live"],
        )


def write_message(out: BinaryIO, values: Mapping[str, object], payload: bytes = b"") -> None:
    """Write one message.

    Args:
        out: The process's standard output.
        values: Fields of the line.
        payload: Bytes that follow the line.
    """
    out.write(json.dumps({**values, "bytes": len(payload)}).encode() + b"\n")
    out.write(payload)
    out.flush()
