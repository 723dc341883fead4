"""Change and noise: what is known of two series, and what many tests together may claim."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.compare_power import MACHINES, Noise, simulate
from tests.benchmark.records import steady
from vdeploy.benchmark.compare.statistics import (
    LEAST_WINDOWS,
    RUN_SPREAD,
    LogRatio,
    enough,
    holm_levels,
    log_ratio,
    mean_correlation,
)


def test_two_constant_series_differ_by_their_ratio_within_what_runs_differ():
    ratio = log_ratio([2.0] * 8, [3.0] * 8)
    assert math.exp(ratio.estimate) == pytest.approx(1.5)
    assert ratio.error == pytest.approx(math.sqrt(2) * RUN_SPREAD)
    assert ratio.interval(0.025) == pytest.approx(
        (1.5 * math.exp(-1.96 * ratio.error), 1.5 * math.exp(1.96 * ratio.error)), rel=1e-4
    )


def test_the_interval_narrows_with_more_windows_and_widens_with_correlated_ones():
    few, many = (log_ratio(steady(1, n, 0.05, seed=1), steady(1, n, 0.05, seed=2)) for n in (8, 80))
    assert many.error < few.error
    assert many.freedom > few.freedom
    windows = steady(1, 12, 0.2, seed=1)
    alone, held = (log_ratio(windows, windows, correlation=value) for value in (0.0, 0.8))
    assert held.error > 1.2 * alone.error
    assert held.freedom < alone.freedom


def test_a_disturbed_window_moves_nothing():
    windows = steady(1.0)
    disturbed = (*windows[:5], 4.0, *windows[6:])
    assert abs(log_ratio(windows, disturbed).estimate) < 0.01


def test_a_drift_is_seen_as_correlation_and_independent_noise_is_not():
    drift = [1 + 0.01 * index for index in range(20)]
    assert mean_correlation([drift, drift]) > 0.7
    independent = [steady(1, 12, 0.02, seed=seed) for seed in range(40)]
    assert mean_correlation(independent) < 0.15


def test_correlation_is_not_underrated_in_short_series():
    noise = Noise("correlated", 0.02, correlation=0.5, run=0.0)
    random = np.random.default_rng(0)
    assert mean_correlation([noise.draw(random, 10).tolist() for _ in range(400)]) == pytest.approx(0.5, abs=0.12)


def test_nothing_is_known_without_series():
    assert mean_correlation([]) == 0
    assert mean_correlation([[1.0] * (LEAST_WINDOWS - 1)]) == 0


@pytest.mark.parametrize(
    "windows", [[1.0] * (LEAST_WINDOWS - 1), [1, 1, 1, 0], [1, 1, 1, math.inf], [1, 1, 1, math.nan]]
)
def test_what_is_not_enough_is_refused(windows):
    assert not enough(windows)
    with pytest.raises(ValueError, match="positive timings"):
        log_ratio(windows, [1.0] * 8)


def test_probabilities_and_bounds_say_the_same():
    ratio = LogRatio(math.log(1.08), 0.02, 9)
    low, high = ratio.interval(0.05)
    assert low < 1.08 < high
    assert ratio.p_above(low) == pytest.approx(0.05)
    assert ratio.p_below(high) == pytest.approx(0.05)
    assert ratio.p_above(1.08) == pytest.approx(0.5)


def test_bounds_of_what_is_hardly_known_are_finite():
    low, high = LogRatio(0.0, 1e6, 1).interval(0.01)
    assert (low, math.isfinite(high)) == (0, True)


def test_holm_asks_less_of_each_further_hypothesis_and_stops_at_the_first_that_stands():
    assert holm_levels([0.04, 0.001, 0.03, 0.02], 0.05) == [
        (False, 0.05 / 3),
        (True, 0.05 / 4),
        (False, 0.05 / 3),
        (False, 0.05 / 3),
    ]
    assert holm_levels([0.01, 0.04], 0.05) == [(True, 0.025), (True, 0.05)]
    assert holm_levels([], 0.05) == []


@pytest.mark.slow
@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_a_rerun_is_hardly_ever_called_slower(machine):
    assert simulate(machine, 10, tries=60).false_alarm <= 0.05


@pytest.mark.slow
def test_a_tenth_more_is_found():
    quiet, usual = MACHINES[:2]
    assert simulate(quiet, 10, tries=60).found_one > 0.9
    assert simulate(usual, 20, tries=60).found_one > 0.75
    assert simulate(usual, 10, tries=60).found_any > 0.95


@pytest.mark.slow
def test_the_rates_hold_over_many_tries():
    usual, restless = MACHINES[1], MACHINES[-1]
    assert simulate(usual, 10, tries=500).false_alarm <= 0.005
    assert simulate(restless, 10, tries=500).false_alarm <= 0.04
