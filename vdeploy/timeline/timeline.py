"""What a video or a stream shows over time: the scores of its windows and the events in them, as one JSON document."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from vdeploy.core.errors import TimelineError
from vdeploy.timeline.events import Event, EventRule, Window, find_events

__all__ = ["SCHEMA_VERSION", "Event", "EventRule", "Timeline", "Window", "find_events"]

SCHEMA_VERSION = "1.0"


@dataclasses.dataclass(frozen=True)
class Timeline:
    """The scores of a video's windows and the events in them.

    Attributes:
        source: The file or address.
        duration_s: How much of it was seen, in seconds.
        window_s: Length of a window.
        stride_s: From the start of a window to the start of the next.
        sampled_fps: Frames a second that were looked at.
        rule: What made windows events.
        windows: In the order of their starts; the last one ends with the source and may be nearer to the one before.
        events: In order.
        dropped_frames: Sampled frames that were not looked at, because the scorer fell behind a live source.
        warnings: What is odd about the source, and what was assumed.
    """

    source: str
    duration_s: float
    window_s: float
    stride_s: float
    sampled_fps: float
    rule: EventRule
    windows: tuple[Window, ...]
    events: tuple[Event, ...]
    dropped_frames: int = 0
    warnings: tuple[str, ...] = ()

    @property
    def peak_probability(self) -> float:
        """The highest probability of all windows; 0 without one."""
        return max((window.probability for window in self.windows), default=0.0)

    def with_rule(self, rule: EventRule) -> Timeline:
        """The same scores, judged by another rule."""
        return dataclasses.replace(self, rule=rule, events=find_events(self.windows, rule))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        values = dataclasses.asdict(self)
        for name in ("windows", "events", "warnings"):
            values[name] = list(values[name])
        return {"schema_version": SCHEMA_VERSION, **values}

    def to_json(self) -> str:
        """The timeline as a JSON document."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Timeline:
        """Reads what `to_json` wrote.

        Raises:
            TimelineError: It is no timeline, or one of another major version.
        """
        try:
            values = dict(json.loads(text))
            version = str(values.pop("schema_version"))
            if version.partition(".")[0] != SCHEMA_VERSION.partition(".")[0]:
                raise TimelineError(
                    f"the timeline has schema version {version}, this vdeploy reads {SCHEMA_VERSION}",
                    "use the vdeploy that wrote it",
                )
            return cls(
                **{
                    **values,
                    "rule": EventRule(**values["rule"]),
                    "windows": tuple(Window(**window) for window in values["windows"]),
                    "events": tuple(Event(**event) for event in values["events"]),
                    "warnings": tuple(values["warnings"]),
                }
            )
        except (KeyError, TypeError, ValueError) as error:
            raise TimelineError(f"this is no timeline ({error!r})", "give a file that --timeline wrote") from error
