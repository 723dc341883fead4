"""Where every watched source stands, gathered from reports."""

from __future__ import annotations

import collections
import dataclasses
import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vdeploy.live.report import Report

__all__ = ["SourceStatus", "StatusBoard"]

_LATENCIES = 50


@dataclasses.dataclass
class SourceStatus:
    """Where one source stands.

    Attributes:
        name: The source's name.
        state: ``"opening"``, or the last thing that happened to its connection.
        probability: Of its last window.
        windows: Windows that were scored.
        events: Events that have begun.
        in_event: Whether one goes on.
        dropped_frames: Sampled frames that were dropped.
        message: What is wrong, if anything.
    """

    name: str
    state: str = "opening"
    probability: float | None = None
    windows: int = 0
    events: int = 0
    in_event: bool = False
    dropped_frames: int = 0
    message: str = ""
    _latencies_ms: collections.deque[float] = dataclasses.field(
        default_factory=lambda: collections.deque(maxlen=_LATENCIES), repr=False
    )

    @property
    def latency_ms(self) -> float | None:
        """Median over the last windows, from the arrival of a window's last frame to its score."""
        return statistics.median(self._latencies_ms) if self._latencies_ms else None

    def take(self, report: Report) -> None:
        """Takes a report about this source."""
        self.dropped_frames = max(self.dropped_frames, report.dropped_frames)
        if report.kind in {"connected", "lost", "ended"}:
            self.state, self.message = report.kind, report.message or (self.message if report.kind == "ended" else "")
        if report.window is not None:
            self.windows += 1
            self.probability = report.window.probability
            if report.latency_ms is not None:
                self._latencies_ms.append(report.latency_ms)
        if report.kind == "event_began":
            self.events += 1
        if report.kind in {"event_began", "event_ended"}:
            self.in_event = report.kind == "event_began"


class StatusBoard:
    """All sources.

    Args:
        names: Their names, in order.

    Attributes:
        sources: Where each stands, by its name.
        message: What is wrong with the scorer, if anything.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.sources = {name: SourceStatus(name) for name in names}
        self.message = ""

    def take(self, report: Report) -> None:
        """Takes a report."""
        if report.source:
            self.sources[report.source].take(report)
        else:
            self.message = report.message if report.kind == "scorer_lost" else ""
