"""What a decoder process of the gateway is asked for."""

from __future__ import annotations

import dataclasses
from typing import Any

from vdeploy.timeline.windows import WindowPlan
from vdeploy.video.clips import ClipSpec
from vdeploy.video.live_reader import LiveInput
from vdeploy.video.workers.limits import DecodingLimits
from vdeploy.video.workers.messages import Request

__all__ = ["TASK", "Job"]

TASK = "upload"


@dataclasses.dataclass(frozen=True)
class Job:
    """A source to decode.

    Attributes:
        source: A file; with ``live``, the address or device.
        spec: Number and size of the frames.
        limits: Of the decoding.
        plan: When frames are sampled from a video of any length; ``None`` decodes the frames of one clip.
        live: How a camera is opened, which is read as fast as it sends, until it ends; ``None`` for a file.
    """

    source: str
    spec: ClipSpec
    limits: DecodingLimits
    plan: WindowPlan | None = None
    live: LiveInput | None = None

    def to_request(self, nice: int = 0) -> Request:
        """The job as a request for a process that has it alone.

        Args:
            nice: How much lower than usual its priority is.
        """
        arguments: dict[str, Any] = {
            "spec": self.spec.to_dict(),
            "plan": dataclasses.asdict(self.plan) if self.plan else None,
            "live": dataclasses.asdict(self.live) if self.live else None,
        }
        largest = self.spec.frames * self.spec.size**2 * 3
        return Request(TASK, self.source, self.limits, arguments, largest=largest, nice=nice)

    @classmethod
    def from_request(cls, request: Request) -> Job:
        """Read a request that `to_request` has made."""
        values = request.arguments
        plan = WindowPlan(**values["plan"]) if values["plan"] else None
        live = LiveInput(**values["live"]) if values["live"] else None
        return cls(request.source, ClipSpec.from_dict(values["spec"]), request.limits, plan, live)
