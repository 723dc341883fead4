"""Arrivals, the load that they make, and the highest rate that a server holds."""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from vdeploy.benchmark.tuning.arrivals import poisson_arrivals, read_arrivals
from vdeploy.benchmark.tuning.highest_rate import STEPS_PER_DECADE, find_highest_rate, mean_rate, rate_at
from vdeploy.benchmark.tuning.open_loop import Load, percentile_99, run_load
from vdeploy.core.errors import BenchmarkError

Array = npt.NDArray[np.float64]


def queue(due: Array, service_s: float, servers: int = 1) -> Array:
    """Milliseconds that requests spend in a queue before servers that take a fixed time each."""
    free = [0.0] * servers
    found = []
    for arrival in due:
        end = max(arrival, heapq.heappop(free)) + service_s
        heapq.heappush(free, end)
        found.append(1000 * (end - arrival))
    return np.array(found)


def simulated(service_s: float, *, seed: int = 0, requests: int = 400, part: int = 0) -> Callable[[float], Load]:
    arrivals = poisson_arrivals(seed)
    return lambda rate: Load(rate, requests, queue(arrivals.times(rate, requests, part), service_s))


def test_poisson_arrivals_scale_with_the_rate_and_repeat() -> None:
    times = poisson_arrivals().times(10, 2000)
    assert times[-1] == pytest.approx(200, rel=0.1)
    np.testing.assert_allclose(poisson_arrivals().times(40, 2000), times / 4)
    assert np.diff(times).std() == pytest.approx(0.1, rel=0.1)
    assert not np.allclose(poisson_arrivals().times(10, 2000, 1), times)
    assert not np.allclose(poisson_arrivals(1).times(10, 2000), times)


def test_recorded_arrivals_are_replayed_at_any_rate(tmp_path: Path) -> None:
    file = tmp_path / "arrivals.txt"
    file.write_text("\n".join(str(1e9 + second) for second in range(1200) if second % 3) + "\n\n")
    arrivals = read_arrivals(file)
    gaps = np.diff(arrivals.times(2, 150))
    assert gaps.mean() == pytest.approx(0.5, rel=0.02)
    assert gaps.max() == pytest.approx(2 * gaps.min())
    assert len(arrivals.times(2, 1000)) == 1000
    assert arrivals.name.startswith("arrivals of arrivals.txt, sha256 ")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"1\nsoon\n", "line 2 is no number"),
        (b"1\nnan\n", "line 2 is no number"),
        (b"", "holds 0 arrivals within 0 s; record more than 400"),
        (b"1\n2\n", "holds 2 arrivals within 1 s; record more than 400"),
        (b"7\n" * 500, "holds 500 arrivals within 0 s"),
        (None, "No such file"),
    ],
)
def test_a_file_without_arrivals(tmp_path: Path, content: bytes | None, reason: str) -> None:
    if content is not None:
        (tmp_path / "a").write_bytes(content)
    with pytest.raises(BenchmarkError, match=reason):
        read_arrivals(tmp_path / "a")


class Worker:
    """Answers after a fixed time, one request after the other, as a server with one copy does."""

    def __init__(self, service_s: float, error: Exception | None = None) -> None:
        self._service, self._error, self._lock, self.sent = service_s, error, threading.Lock(), 0
        self._free = time.perf_counter()

    def __call__(self, _: int, done: Callable[[Exception | None], None]) -> None:
        with self._lock:
            self.sent += 1
            self._free = max(self._free, time.perf_counter()) + self._service
            threading.Timer(self._free - time.perf_counter(), done, [self._error]).start()


def test_latencies_are_those_of_the_queue() -> None:
    due = poisson_arrivals().times(50, 100)
    load = run_load(Worker(0.01), due, 50, 10_000)
    assert (load.latencies_ms >= queue(due, 0.01) - 1).all()
    assert np.median(load.latencies_ms) < np.median(queue(due, 0.01)) + 200
    assert load.holds(10_000)
    assert not load.holds(5)
    assert not load.stopped


def test_a_hopeless_rate_is_given_up() -> None:
    worker = Worker(0.02)
    load = run_load(worker, poisson_arrivals().times(200, 400), 200, 50)
    assert load.stopped
    assert worker.sent == len(load.latencies_ms) < 200
    assert not load.holds(50)
    assert load.p99_ms > 50


def test_silence_counts_as_lateness(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vdeploy.benchmark.tuning.open_loop.DRAIN_SECONDS", 0.1)
    load = run_load(lambda *_: None, poisson_arrivals().times(200, 200), 200, 50)
    assert load.stopped
    assert np.isinf(load.latencies_ms).all()
    assert load.error == "no answer within 0.1 s"


def test_an_error_is_no_answer() -> None:
    load = run_load(Worker(0.0, ValueError("overloaded")), poisson_arrivals().times(500, 100), 500, 50)
    assert load.error == "overloaded"
    assert not load.holds(1e9)


def test_the_percentile_is_a_latency_that_was_measured() -> None:
    assert percentile_99(np.arange(1.0, 201.0)) == 198


def test_the_highest_rate_is_the_one_before_the_first_that_fails() -> None:
    found = find_highest_rate(simulated(0.05), 5.0, 200.0)
    held = {load.rate: load.holds(200.0) for load in found.loads}
    above = rate_at(round(STEPS_PER_DECADE * np.log10(found.per_s)) + 1)
    assert held[found.per_s]
    assert not held[above]
    assert found.p99_ms <= 200


@pytest.mark.parametrize("start", [0.9, 5.0, 19.0, 60.0])
def test_it_does_not_depend_on_where_the_search_begins(start: float) -> None:
    expected = find_highest_rate(simulated(0.05), 10.0, 200.0).per_s
    assert find_highest_rate(simulated(0.05), start, 200.0).per_s == pytest.approx(expected, rel=0.06)


def test_the_interval_covers_what_a_longer_load_finds() -> None:
    true = find_highest_rate(simulated(0.05, requests=20_000), 10.0, 200.0).per_s
    covered = []
    for seed in range(10):
        rates = [find_highest_rate(simulated(0.05, seed=seed, part=part), 10.0, 200.0).per_s for part in (1, 2, 3)]
        mean, low, high = mean_rate(rates)
        assert low <= mean <= high
        covered.append(low <= true <= high)
    assert sum(covered) >= 8


def test_a_mean_of_rates_that_agree_and_of_none() -> None:
    assert mean_rate([10.0, 10.0, 10.0]) == pytest.approx((10, 10, 10))
    assert mean_rate([10.0, 0.0, 12.0]) == (0, 0, 12)


def test_an_objective_that_no_rate_holds() -> None:
    found = find_highest_rate(simulated(0.3), 3.0, 200.0)
    assert found.per_s == 0
    assert found.p99_ms >= 300
