"""When a row has settled, and which of its windows count."""

from __future__ import annotations

import pytest

from vdeploy.benchmark.measure.windows import LEAST_WINDOWS, SPREAD_LIMIT, Series, spread_of


def series(*medians: float, calls: int = 3) -> Series:
    return Series([[median] * calls for median in medians], warmup_calls=2)


def test_the_spread_is_relative():
    assert spread_of([0.9, 1.0, 1.1]) == pytest.approx(0.2)
    assert spread_of([90, 100, 110]) == pytest.approx(0.2)


def test_a_row_settles_when_the_last_windows_agree():
    assert not series(*[1.0] * (LEAST_WINDOWS - 1)).settled
    assert series(*[1.0] * LEAST_WINDOWS).settled
    assert series(9.0, *[1.0] * LEAST_WINDOWS).settled
    assert not series(*[1.0] * LEAST_WINDOWS, 9.0).settled
    assert not series(1.0, 1.0, 1.0, 1.0, 1.0 + 1.1 * SPREAD_LIMIT).settled


def test_what_came_before_it_settled_is_warm_up():
    figures = series(9.0, 3.0, *[1.0, 1.02] * 4).figures(batch=2, frames=16)
    assert figures["settled"]
    assert (figures["warmup_calls"], figures["calls"]) == (2 + 2 * 3, 8 * 3)
    assert figures["windows_ms"] == tuple([1000.0, 1020.0] * 4)
    assert figures["clips_per_s"] == pytest.approx(2 / 1.01)
    assert figures["frames_per_s"] == pytest.approx(32 / 1.01)
    assert figures["spread"] == pytest.approx(0.02 / 1.01)


def test_a_row_that_does_not_settle_tells_of_its_last_windows():
    figures = series(*[1.0, 2.0] * LEAST_WINDOWS).figures(batch=1, frames=4)
    assert not figures["settled"]
    assert figures["calls"] == 3 * LEAST_WINDOWS
    assert figures["spread"] == pytest.approx(0.5)


def test_percentiles_are_those_of_the_calls():
    one = Series([[0.001 * number for number in range(1, 101)]])
    figures = one.figures(batch=3, frames=1)
    assert [figures[name] for name in ("p50_ms", "p90_ms", "p95_ms", "p99_ms")] == pytest.approx(
        [50.5, 90.1, 95.05, 99.01]
    )
    assert figures["clips_per_s"] == pytest.approx(3 / 0.0505)
    assert not figures["settled"]


def test_the_time_is_that_of_the_calls():
    assert series(1.0, 2.0).seconds == pytest.approx(9.0)
