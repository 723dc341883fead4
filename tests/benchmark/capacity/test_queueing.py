"""The formula of the latency, against simulation and against what is known exactly."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vdeploy.benchmark.capacity.queueing import highest_load, p99_latency, simulated_p99


@pytest.mark.parametrize("variation", [0.0, 0.5])
@pytest.mark.parametrize("busy", [0.3, 0.6, 0.8])
def test_formula_and_simulation_agree(variation: float, busy: float) -> None:
    formula = p99_latency(busy / 0.1, 0.1, variation=variation)
    simulated = simulated_p99(busy / 0.1, 0.1, variation=variation, requests=40_000)
    assert 0.9 < formula / simulated < 1.25


def test_with_exponential_service_both_are_those_of_the_textbook() -> None:
    """In M/M/1, the time in the system is exponentially distributed with the rate 1 / service - rate."""
    exact = math.log(100) / (10 - 5)
    assert simulated_p99(5, 0.1, variation=1.0, requests=200_000) == pytest.approx(exact, rel=0.05)
    assert p99_latency(5, 0.1, variation=1.0) == pytest.approx(exact, rel=0.1)


def test_no_load_waits_for_nothing_and_too_much_for_ever() -> None:
    assert p99_latency(1e-6, 0.1) == pytest.approx(0.1)
    assert p99_latency(10, 0.1) == math.inf


def test_the_highest_load_holds_and_more_does_not() -> None:
    rate = highest_load(0.1, 0.5, variation=0.2)
    assert p99_latency(rate, 0.1, variation=0.2) <= 0.5 < p99_latency(1.001 * rate, 0.1, variation=0.2)
    assert 0.4 < rate * 0.1 < 0.6
    assert highest_load(0.1, 0.09) == 0
    assert highest_load(0.1, 1e9) == pytest.approx(10, rel=1e-3)


def test_latency_grows_with_load_and_variation() -> None:
    latencies = [p99_latency(rate, 0.1, variation=variation) for variation in (0.0, 0.5) for rate in (5.0, 8.0, 9.5)]
    assert (np.diff(latencies[:3]) > 0).all()
    assert all(more > less for less, more in zip(latencies[:3], latencies[3:], strict=True))
