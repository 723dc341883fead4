"""Windows that slide over features, against windows that are cut out of a list."""

from __future__ import annotations

import numpy as np
import pytest

from vdeploy.core.errors import TimelineError
from vdeploy.timeline.windows import WindowPlan, WindowSlider


def run(slider: WindowSlider, indices) -> list[tuple[int, list[int]]]:
    """What is due for features that are the frames' numbers."""
    due = [window for index in indices for window in slider.push(index, np.array([index], np.float32))]
    return [(window.first, window.values[:, 0].astype(int).tolist()) for window in due]


def end(slider: WindowSlider) -> tuple[int, list[int]] | None:
    due = slider.finish()
    return due and (due.first, due.values[:, 0].astype(int).tolist())


@pytest.mark.parametrize("stride", [1, 2, 4, 7])
@pytest.mark.parametrize("count", [4, 5, 11, 30])
def test_windows_are_those_that_one_would_cut_out(stride, count):
    slider = WindowSlider(WindowPlan(4, 2.0, stride))
    expected = [(first, list(range(first, first + 4))) for first in range(0, count - 3, stride)]
    assert run(slider, range(count)) == expected
    last = (count - 4, list(range(count - 4, count)))
    assert end(slider) == (None if last in expected else last)


@pytest.mark.parametrize(("count", "expected"), [(1, [0, 0, 0, 0]), (2, [0, 0, 1, 1]), (3, [0, 1, 1, 2])])
def test_a_stream_shorter_than_a_window_is_spread_over_one(count, expected):
    slider = WindowSlider(WindowPlan(4, 2.0, 2))
    assert run(slider, range(count)) == []
    assert end(slider) == (0, expected)


def test_no_frame_no_window():
    assert end(WindowSlider(WindowPlan(4, 2.0, 2))) is None


def test_numbers_left_out_stand_for_the_frame_before():
    slider = WindowSlider(WindowPlan(4, 2.0, 2))
    assert run(slider, [0, 1, 4, 5]) == [(0, [0, 1, 1, 1]), (2, [1, 1, 4, 5])]


def test_no_window_spans_a_long_gap():
    slider = WindowSlider(WindowPlan(4, 2.0, 2))
    assert run(slider, [0, 1, 2, 3, 10, 11, 12, 13, 14]) == [(0, [0, 1, 2, 3]), (10, [10, 11, 12, 13])]
    assert end(slider) == (11, [11, 12, 13, 14])


def test_what_comes_before_a_long_gap_is_scored_as_an_end_is():
    slider = WindowSlider(WindowPlan(4, 2.0, 2))
    assert run(slider, [0, 1, 10, 11, 12, 13, 14, 20]) == [
        (0, [0, 0, 1, 1]),
        (10, [10, 11, 12, 13]),
        (11, [11, 12, 13, 14]),
    ]
    assert end(slider) == (20, [20, 20, 20, 20])


def test_the_longest_gap_can_be_chosen():
    slider = WindowSlider(WindowPlan(4, 2.0, 2), longest_gap=4)
    assert run(slider, [0, 5]) == [(0, [0, 0, 0, 0]), (2, [0, 0, 0, 5])]


def test_a_plan_in_seconds():
    plan = WindowPlan.of(16, 2.0, 1.0)
    assert (plan.stride, plan.sampled_fps, plan.stride_s) == (8, 8.0, 1.0)
    assert WindowPlan.of(16, 2.0).stride == 8
    assert WindowPlan.of(16, 2.0, 0.001).stride == 1
    assert WindowPlan.of(16, 1.64, 1.0).stride_s == pytest.approx(1.025)
    window = plan.window(4, 0.25)
    assert (window.start_s, window.end_s, window.probability) == (0.5, 2.5, 0.25)
    assert plan.window(0, 0.25, end_s=1.2).end_s == 1.2
    assert plan.window(0, 0.25, end_s=9.0).end_s == 2.0


@pytest.mark.parametrize(
    ("window", "stride"), [(0, 1), (-1, 1), (2, 0), (2, -1), (float("nan"), 1), (float("inf"), 1), (2, float("inf"))]
)
def test_lengths_that_make_no_sense(window, stride):
    with pytest.raises(TimelineError, match="make no timeline; give positive numbers of seconds"):
        WindowPlan.of(16, window, stride)


@pytest.mark.parametrize("window_s", [1e-9, 1e-300, 0.0159])
def test_a_window_that_no_camera_could_fill_is_refused(window_s):
    with pytest.raises(TimelineError, match=r"would sample .* frames a second; give a window of at least 0\.016 s"):
        WindowPlan.of(16, window_s)


def test_a_stride_of_no_frame():
    with pytest.raises(TimelineError, match="make no timeline; give a positive window"):
        WindowPlan(16, 2.0, 0)
