"""Scores of windows become events: hysteresis, merging, durations, and the same answer while windows come in."""

from __future__ import annotations

import numpy as np
import pytest

from vdeploy.timeline.events import Event, EventRule, EventTracker, Window, find_events

NO_MERGING = EventRule(enter=0.5, leave=0.4, merge_gap_s=0.0)


def windows(*scores: float, length: float = 1.0, stride: float = 1.0) -> list[Window]:
    return [Window(number * stride, number * stride + length, score) for number, score in enumerate(scores)]


def spans(found) -> list[tuple[float, float]]:
    return [(event.start_s, event.end_s) for event in found]


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ((), []),
        ((0.1, 0.49, 0.4), []),
        ((0.5,), [(0, 1)]),
        ((0.1, 0.5, 0.4, 0.39), [(1, 3)]),
        ((0.4, 0.5, 0.1), [(1, 2)]),
        ((0.9, 0.1, 0.9), [(0, 1), (2, 3)]),
        ((0.9, 0.1, 0.45, 0.9), [(0, 1), (3, 4)]),
        ((0.9, 0.9), [(0, 2)]),
    ],
)
def test_an_event_begins_at_one_threshold_and_ends_below_another(scores, expected):
    assert spans(find_events(windows(*scores), NO_MERGING)) == expected


@pytest.mark.parametrize(("gap", "expected"), [(0.9, [(0, 1), (2, 3)]), (1.0, [(0, 3)])])
def test_events_with_little_between_them_are_one(gap, expected):
    rule = EventRule(enter=0.5, leave=0.4, merge_gap_s=gap)
    assert spans(find_events(windows(0.9, 0.1, 0.9), rule)) == expected


@pytest.mark.parametrize(("shortest", "expected"), [(1.0, [(0, 1), (2, 4)]), (1.5, [(2, 4)]), (2.1, [])])
def test_short_events_are_left_out(shortest, expected):
    rule = EventRule(enter=0.5, leave=0.4, min_duration_s=shortest, merge_gap_s=0.0)
    assert spans(find_events(windows(0.9, 0.1, 0.9, 0.9), rule)) == expected


def test_the_duration_is_that_of_the_merged_event():
    rule = EventRule(enter=0.5, leave=0.4, min_duration_s=2.5, merge_gap_s=1.0)
    assert spans(find_events(windows(0.9, 0.1, 0.9), rule)) == [(0, 3)]


def test_a_stretch_without_windows_ends_an_event():
    apart = [Window(0, 1, 0.9), Window(5, 6, 0.45), Window(6, 7, 0.9)]
    assert spans(find_events(apart, EventRule())) == [(0, 1), (6, 7)]


def test_overlapping_windows_make_events_that_do_not_overlap():
    found = find_events(windows(0.9, 0.1, 0.9, 0.1, 0.1, 0.9, length=2.0), NO_MERGING)
    assert spans(found) == [(0, 4), (5, 7)]


def test_peak_and_confidence():
    (event,) = find_events(windows(0.1, 0.6, 0.8, 0.1, 0.6, 0.1), EventRule())
    assert event == Event(1, 5, 2.5, 0.8, pytest.approx((0.6 + 0.8 + 0.1 + 0.6) / 4))


@pytest.mark.parametrize("seed", range(20))
def test_the_tracker_says_the_same_as_all_windows_at_once(seed):
    random = np.random.default_rng(seed)
    rule = EventRule(0.6, 0.4, float(random.choice([0, 2.5])), float(random.choice([0, 1, 3])))
    length = float(random.choice([1, 2]))
    scores = random.random(80)
    found = find_events(windows(*scores, length=length), rule)
    assert spans(found) == brute_force(scores, rule, length)
    tracker = EventTracker(rule)
    seen: list[Event] = []
    for window in windows(*scores, length=length):
        over = tracker.add(window)
        if over:
            assert over not in seen
            seen.append(over)
        if tracker.current:
            assert tracker.current.end_s <= window.end_s
    last = tracker.finish()
    assert (*seen, *([last] if last else [])) == found
    assert tracker.current is None


def brute_force(scores, rule: EventRule, length: float) -> list[tuple[float, float]]:
    """Runs first, merging second, durations last; windows one second apart."""
    runs: list[list[float]] = []
    inside = False
    for start, score in enumerate(scores):
        if score >= (rule.leave if inside else rule.enter):
            if inside:
                runs[-1][1] = start + length
            else:
                runs.append([start, start + length])
            inside = True
        else:
            inside = False
    merged: list[list[float]] = []
    for run in runs:
        if merged and run[0] - merged[-1][1] <= rule.merge_gap_s:
            merged[-1][1] = run[1]
        else:
            merged.append(run)
    return [(start, end) for start, end in merged if end - start >= rule.min_duration_s]


@pytest.mark.parametrize(
    "values",
    [
        {"enter": 0.3, "leave": 0.4},
        {"enter": 1.1},
        {"leave": -0.1},
        {"min_duration_s": -1.0},
        {"merge_gap_s": float("nan")},
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(values):
    with pytest.raises(ValueError, match=r"does not hold|times are at least 0"):
        EventRule(**values)


def test_the_rule_for_a_threshold():
    assert EventRule.at(0.5) == EventRule()
