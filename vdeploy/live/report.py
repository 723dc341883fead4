"""What there is to tell about a watched source, one line of JSON each."""

from __future__ import annotations

import dataclasses
import datetime
import json
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from vdeploy.timeline.events import Event, Window

__all__ = ["Kind", "Report"]

Kind = Literal[
    "connected",
    "lost",
    "gap",
    "ended",
    "window",
    "event_began",
    "event_ended",
    "scorer_lost",
    "scorer_back",
    "scorer_changed",
]
"""What happened: a source was opened, failed (and is tried again), has a gap in its time stamps or has ended; a window
was scored; an event began or was over; the server that scores failed (and is tried again), is back, or has another
threshold."""


@dataclasses.dataclass(frozen=True)
class Report:
    """Something that happened.

    Attributes:
        kind: What.
        source: The source's name; empty where it concerns all of them.
        at: When, in UTC, ISO 8601.
        window: The window that was scored, in seconds since the source's first frame.
        event: The event so far, or the whole of it.
        latency_ms: From the arrival of the window's last frame to its score.
        dropped_frames: Sampled frames of the source that were dropped since it began.
        message: Why, where something failed; what is different, where the scorer is back or has changed.
        threshold: Probability at which an event begins from now on, where the scorer is back or has changed.
    """

    kind: Kind
    source: str = ""
    at: str = dataclasses.field(
        default_factory=lambda: datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds")
    )
    window: Window | None = None
    event: Event | None = None
    latency_ms: float | None = None
    dropped_frames: int = 0
    message: str = ""
    threshold: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values, without what does not apply."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value not in (None, "")}

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(self.to_dict(), allow_nan=False, ensure_ascii=False)
