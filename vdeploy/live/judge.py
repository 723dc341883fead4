"""Reports of windows and events, by a rule that follows the model's threshold."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from vdeploy.core.errors import TimelineError
from vdeploy.live.report import Report
from vdeploy.timeline.events import EventRule, EventTracker

if TYPE_CHECKING:
    from vdeploy.timeline.sliding import ScoredWindow

__all__ = ["Judge"]


class Judge:
    """Finds the events of several sources.

    Args:
        names: The sources.
        dropped: How many frames of a source, by its place, have been dropped.
        rule: Returns what makes windows events where the model has this threshold.
        threshold: That of the model.

    Attributes:
        rule: What makes windows events now.

    Raises:
        TimelineError: There is no rule for the threshold.
    """

    def __init__(
        self,
        names: Sequence[str],
        dropped: Callable[[int], int],
        rule: Callable[[float], EventRule],
        threshold: float,
    ) -> None:
        self._names, self._dropped, self._rule_at, self._threshold = names, dropped, rule, threshold
        self.rule = rule(threshold)
        self._trackers = [EventTracker(self.rule) for _ in names]

    def add(self, scored: ScoredWindow[int], latency_ms: float | None) -> Iterator[Report]:
        """Takes the next window of a source."""
        window, tracker = scored.window, self._trackers[scored.stream]
        name, dropped = self._names[scored.stream], self._dropped(scored.stream)
        yield Report("window", name, window=window, latency_ms=latency_ms, dropped_frames=dropped)
        before = tracker.current
        over = tracker.add(window)
        if over:
            yield Report("event_ended", name, event=over, dropped_frames=dropped)
            before = None
        if before is None and tracker.current:
            yield Report("event_began", name, event=tracker.current, latency_ms=latency_ms, dropped_frames=dropped)

    def finish(self) -> Iterator[Report]:
        """Ends the events that are going on."""
        for stream, (name, tracker) in enumerate(zip(self._names, self._trackers, strict=True)):
            if over := tracker.finish():
                yield Report("event_ended", name, event=over, dropped_frames=self._dropped(stream))

    def change(self, threshold: float) -> str:
        """Judges by another threshold of the model from now on; an event that is going on does so under the new rule.

        Returns:
            What is different, if anything. A threshold that allows no rule changes nothing.
        """
        if threshold == self._threshold:
            return ""
        before, self._threshold = self.rule.enter, threshold
        try:
            self.rule = self._rule_at(threshold)
        except TimelineError as error:
            return f"threshold {before:.2f} is kept, as {error.message}"
        for tracker in self._trackers:
            tracker.rule = self.rule
        return "" if self.rule.enter == before else f"threshold {before:.2f} -> {self.rule.enter:.2f}"
