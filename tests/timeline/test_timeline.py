"""A timeline as a document, and as a picture."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from vdeploy.core.errors import MissingExtraError, TimelineError
from vdeploy.timeline import plot as timeline_plot
from vdeploy.timeline.plot import clock, plot_timeline
from vdeploy.timeline.timeline import EventRule, Timeline, Window, find_events


def timeline(count: int = 60, seed: int = 0) -> Timeline:
    scores = np.random.default_rng(seed).random(count)
    windows = tuple(Window(float(start), start + 2.0, float(score)) for start, score in enumerate(scores))
    rule = EventRule(0.8, 0.5, merge_gap_s=0.0)
    return Timeline("a/$b_1.mp4", count + 1.0, 2.0, 1.0, 8.0, rule, windows, find_events(windows, rule), 3, ("odd",))


def test_a_timeline_survives_json():
    before = timeline()
    assert before.events
    assert Timeline.from_json(before.to_json()) == before
    values = json.loads(before.to_json())
    assert values["schema_version"] == "1.0"
    assert values["windows"][1].keys() == {"start_s", "end_s", "probability"}


def test_another_rule_gives_other_events_from_the_same_scores():
    before = timeline()
    after = before.with_rule(EventRule(1.0, 1.0))
    assert after.windows == before.windows
    assert after.events == ()
    assert after.with_rule(before.rule) == before


def test_the_highest_score():
    assert timeline().peak_probability == max(window.probability for window in timeline().windows)
    assert timeline(0).peak_probability == 0


@pytest.mark.parametrize(
    "text", ["", "[]", "3", "{}", '{"schema_version": "1.0"}', '{"schema_version": "1.0", "x": 1}']
)
def test_what_is_no_timeline_is_refused(text):
    with pytest.raises(TimelineError, match=r"this is no timeline .*; give a file that --timeline wrote"):
        Timeline.from_json(text)


def test_a_newer_timeline_is_refused():
    text = timeline().to_json().replace('"schema_version": "1.0"', '"schema_version": "2.0"')
    with pytest.raises(TimelineError, match=r"schema version 2\.0, this vdeploy reads 1\.0; use the vdeploy"):
        Timeline.from_json(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (9.96, "0:10"), (61.5, "1:01.5"), (59.99, "1:00"), (3600, "1:00:00"), (86399, "23:59:59")],
)
def test_times_as_people_write_them(seconds, text):
    assert clock(seconds) == text


def test_a_picture_shows_the_strip_and_the_events(tmp_path):
    strip = np.zeros((4, 90, 160, 3), np.uint8)
    strip[..., 1] = 200
    plot_timeline(timeline(), tmp_path / "with.png", strip)
    plot_timeline(timeline(0), tmp_path / "empty.png")
    picture = cv2.imread(str(tmp_path / "with.png"))
    assert picture.shape[1] == 1800
    green = (picture == (0, 200, 0)).all(axis=2).mean()
    assert 0.1 < green < 0.4
    assert (cv2.imread(str(tmp_path / "empty.png")) == 255).all(axis=2).mean() > 0.8


@pytest.mark.parametrize("suffix", ["svg", "pdf"])
def test_other_kinds_of_pictures(tmp_path, suffix):
    file = tmp_path / f"t.{suffix}"
    plot_timeline(timeline(), file)
    assert file.read_bytes().startswith(b"<?xml" if suffix == "svg" else b"%PDF")


def test_a_name_that_is_no_picture(tmp_path):
    with pytest.raises(TimelineError, match=r"t\.txt has no suffix of a picture; choose one of .*\.png"):
        plot_timeline(timeline(), tmp_path / "t.txt")


def test_without_matplotlib(tmp_path, monkeypatch):
    def missing(module, *, extra, purpose):
        raise MissingExtraError(module, extra, purpose)

    monkeypatch.setattr(timeline_plot, "require", missing)
    with pytest.raises(MissingExtraError, match=r"pip install 'vdeploy\[report\]'"):
        plot_timeline(timeline(), tmp_path / "t.png")
