"""How events are counted against known fights, and how long videos are put together."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from benchmarks.events import Counts, by_event, by_second, choose_rule
from benchmarks.montage import make_montage
from testing.videos import solid_frame, write_video
from vdeploy.timeline.timeline import EventRule, Timeline, Window, find_events
from vdeploy.video.reader import VideoReader


def judged(scores: list[float], *fights: tuple[float, float]):
    from benchmarks.montage import Montage

    windows = tuple(Window(float(start), start + 1.0, score) for start, score in enumerate(scores))
    rule = EventRule(0.5, 0.5, merge_gap_s=0.0)
    length = float(len(scores))
    timeline = Timeline("v", length, 1.0, 1.0, 16.0, rule, windows, find_events(windows, rule))
    return timeline, Montage(Path("v"), fights, length)


def test_events_are_matched_with_fights_once():
    one = judged([0, 0.9, 0.9, 0, 0, 0.9, 0, 0.9], (1.0, 3.0), (5.0, 8.0))
    assert by_event([one], 0.3) == Counts(hits=2, false=1, missed=0)
    assert by_event([one], 0.5) == Counts(hits=1, false=2, missed=1)
    assert by_event([one, one], 0.5) == Counts(hits=2, false=4, missed=2)


def test_measures():
    counts = Counts(hits=6, false=2, missed=4)
    assert (counts.precision, counts.recall) == (0.75, 0.6)
    assert counts.f1 == pytest.approx(2 * 0.75 * 0.6 / 1.35)
    assert Counts(0, 0, 0) == Counts(0, 0, 0)
    assert (Counts(0, 0, 0).precision, Counts(0, 0, 0).recall, Counts(0, 0, 0).f1) == (0, 0, 0)


def test_by_the_second():
    counts = by_second([judged([0, 0.9, 0.9, 0], (2.0, 4.0))])
    assert counts == Counts(hits=10, false=10, missed=10)


def test_the_chosen_rule_finds_what_the_usual_one_does_not():
    quiet = judged([0.1, 0.3, 0.3, 0.1, 0.1, 0.3, 0.1], (1.0, 3.0), (5.0, 6.0))
    rule = choose_rule([quiet])
    assert 0.1 < rule.enter <= 0.3
    assert by_event([(quiet[0].with_rule(rule), quiet[1])], 0.5) == Counts(2, 0, 0)


def test_a_montage_shows_fights_where_it_says(tmp_path):
    calm = write_video(tmp_path / "calm.mp4", [solid_frame((10, 10, 240))] * 20)
    fight = write_video(tmp_path / "fight.mp4", [solid_frame((240, 10, 10))] * 20)
    montage = make_montage({0: [calm], 1: [fight]}, 0.2, 3, tmp_path / "long.mp4")
    with VideoReader(montage.path, threading.Event()) as capture:
        reds = []
        while capture.grab():
            frame = capture.retrieve(32)
            reds.append(frame[..., 0].mean() > frame[..., 2].mean())
    assert len(reds) == pytest.approx(montage.duration_s * 25)
    assert montage.duration_s >= 12
    for number, red in enumerate(reds):
        middle = (number + 0.5) / 25
        assert red == any(start < middle < end for start, end in montage.fights)
