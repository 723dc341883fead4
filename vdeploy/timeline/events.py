"""From scores of windows to events: hysteresis, gaps that are bridged, and a shortest duration."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

__all__ = ["Event", "EventRule", "EventTracker", "Window", "find_events"]


@dataclasses.dataclass(frozen=True)
class Window:
    """A stretch of video with its score.

    Attributes:
        start_s: Where it starts, in seconds from the start of the source.
        end_s: Where it ends.
        probability: Of violence.
    """

    start_s: float
    end_s: float
    probability: float


@dataclasses.dataclass(frozen=True)
class Event:
    """A stretch of video that counts as violent.

    Attributes:
        start_s: Start of its first window, in seconds from the start of the source.
        end_s: End of its last window.
        peak_s: Middle of the window with the highest probability, the first of several.
        peak_probability: That window's probability.
        confidence: Mean probability of all windows from its first to its last.
    """

    start_s: float
    end_s: float
    peak_s: float
    peak_probability: float
    confidence: float


@dataclasses.dataclass(frozen=True)
class EventRule:
    """What makes windows an event.

    Attributes:
        enter: Probability from which a window begins an event.
        leave: Probability from which a window goes on with an event that has begun; at most ``enter``.
        min_duration_s: Events shorter than this are left out.
        merge_gap_s: Events with at most this between them are one.

    Raises:
        ValueError: A probability is outside 0 to 1, ``leave`` is above ``enter``, or a time is negative.
    """

    enter: float = 0.5
    leave: float = 0.4
    min_duration_s: float = 0.0
    merge_gap_s: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.leave <= self.enter <= 1:
            raise ValueError(f"0 <= leave <= enter <= 1 does not hold for leave {self.leave} and enter {self.enter}")
        if not (self.min_duration_s >= 0 and self.merge_gap_s >= 0):
            raise ValueError(f"times are at least 0, not {self.min_duration_s} and {self.merge_gap_s}")

    @classmethod
    def at(cls, threshold: float) -> EventRule:
        """The rule for a classifier's threshold: events begin there and go on down to four fifths of it."""
        return cls(enter=threshold, leave=0.8 * threshold)


class EventTracker:
    """Finds events while windows come in, in the order of their starts; its memory does not grow.

    An event begins with a window of ``enter`` or more and goes on as long as windows of ``leave`` or more follow. A
    stretch that no window covers ends it. It is over once no window can be merged with it any more.

    Args:
        rule: What makes windows events.

    Attributes:
        rule: The same; another one may take its place at any time, and is that of the next window.
    """

    def __init__(self, rule: EventRule) -> None:
        self.rule = rule
        self._run: _Run | None = None

    @property
    def current(self) -> Event | None:
        """The event so far that further windows may still become part of, if it is long enough to be one."""
        event = self._run.event() if self._run else None
        return event if event and event.end_s - event.start_s >= self.rule.min_duration_s else None

    def add(self, window: Window) -> Event | None:
        """Takes the next window.

        Returns:
            The event that is over now, if one is.
        """
        rule, run, over = self.rule, self._run, None
        if run and window.start_s - run.last.end_s > rule.merge_gap_s:
            over, run = self.finish(), None
        if run is None:
            self._run = _Run(window) if window.probability >= rule.enter else None
        elif window.probability >= (rule.leave if run.is_unbroken_by(window) else rule.enter):
            run.extend(window)
        else:
            run.skip(window)
        return over

    def finish(self) -> Event | None:
        """Says that no window follows.

        Returns:
            The event that is over now, if one is.
        """
        over, self._run = self.current, None
        return over


class _Run:
    """The windows of an event so far, and those after it that become part of it if it goes on."""

    def __init__(self, first: Window) -> None:
        self._first = self._peak = self.last = first
        self._sum, self._count = first.probability, 1
        self._skipped_sum, self._skipped_count = 0.0, 0

    def is_unbroken_by(self, window: Window) -> bool:
        """Whether a window follows the event without a window or a stretch between them that is no part of it."""
        return self._skipped_count == 0 and window.start_s <= self.last.end_s

    def extend(self, window: Window) -> None:
        """Takes a window, and those skipped before it, into the event."""
        self.last = window
        self._peak = max(self._peak, window, key=lambda one: one.probability)
        self._sum += self._skipped_sum + window.probability
        self._count += self._skipped_count + 1
        self._skipped_sum, self._skipped_count = 0.0, 0

    def skip(self, window: Window) -> None:
        """Notes a window that is part of the event only if it goes on."""
        self._skipped_sum += window.probability
        self._skipped_count += 1

    def event(self) -> Event:
        """The event so far."""
        return Event(
            start_s=self._first.start_s,
            end_s=self.last.end_s,
            peak_s=(self._peak.start_s + self._peak.end_s) / 2,
            peak_probability=self._peak.probability,
            confidence=self._sum / self._count,
        )


def find_events(windows: Iterable[Window], rule: EventRule) -> tuple[Event, ...]:
    """Finds the events in a source that has ended.

    Args:
        windows: All windows, in the order of their starts.
        rule: What makes windows an event.

    Returns:
        The events, in order; they do not overlap.

    Example:
        >>> scores = [0.1, 0.9, 0.45, 0.45, 0.1, 0.1]
        >>> windows = [Window(second, second + 2.0, score) for second, score in enumerate(scores)]
        >>> [(event.start_s, event.end_s) for event in find_events(windows, EventRule())]
        [(1, 5.0)]
    """
    tracker = EventTracker(rule)
    found = [tracker.add(window) for window in windows]
    return tuple(event for event in (*found, tracker.finish()) if event is not None)
