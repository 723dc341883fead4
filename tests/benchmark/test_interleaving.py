"""Rows in turns: a window each, begun by another one every time, and none after the others have given up."""

from __future__ import annotations

from collections import Counter

import pytest

from vdeploy.benchmark.measure import interleaving
from vdeploy.benchmark.measure.interleaving import Measurement, measure_interleaved
from vdeploy.benchmark.measure.process import Crashed, Refused
from vdeploy.benchmark.measure.row_job import Job
from vdeploy.benchmark.measure.windows import LEAST_WINDOWS


class Script:
    """Row processes with given durations; `order` is who was measured when."""

    def __init__(self, durations):
        self.durations = durations
        self.order = []
        self.open = Counter()

    def __call__(self, job):
        script = self

        class Process:
            device = "cpu"

            def __enter__(self):
                script.open[job.format] += 1
                return self

            def __exit__(self, *_):
                script.open[job.format] -= 1

            def ask(self, verb, _):
                if verb == "warm":
                    return {"calls": 1}
                script.order.append(job.format)
                outcome = script.durations[job.format]
                seconds = next(outcome) if hasattr(outcome, "__next__") else outcome
                if isinstance(seconds, Exception):
                    raise seconds
                return {"durations": [seconds], "untimed": 0, "parts": {"decode": seconds}, "peak_memory_bytes": 7}

        if isinstance(self.durations[job.format], Refused):
            raise self.durations[job.format]
        return Process()


@pytest.fixture
def run(monkeypatch):
    def measure(durations, seconds, score=None):
        script = Script(durations)
        monkeypatch.setattr(interleaving, "RowProcess", script)
        measurements = [Measurement(name, Job("pipeline", "b", name, None, 1, 1)) for name in durations]
        measure_interleaved(measurements, seconds, score)
        assert not +script.open
        return measurements, script.order

    return measure


def test_rows_take_turns_and_each_round_begins_with_another(run):
    _, order = run({"a": 1.0, "b": 1.0, "c": 1.0}, 0)
    turns = ["".join(order[index : index + 3]) for index in range(0, len(order), 3)]
    assert turns == ["abc", "bca", "cab", "abc", "bca"]


def test_a_quick_row_is_measured_for_its_time(run):
    (one, other), _ = run({"a": 1.0, "b": 2.0}, 12.0)
    assert (one.series.seconds, other.series.seconds) == (12.0, 12.0)
    assert one.parts == {"decode": 12.0}
    assert one.peak_memory_bytes == 7


def test_a_row_that_does_not_settle_is_given_up(run):
    (wild, calm), order = run({"wild": iter([1.0, 2.0] * 50), "calm": 1.0}, 0)
    assert not wild.series.settled
    assert calm.series.settled
    assert order.count("calm") == LEAST_WINDOWS < order.count("wild") == 2 * LEAST_WINDOWS


def test_a_row_that_settles_late_is_waited_for(run):
    (late,), _ = run({"late": iter([4.0, 3.0, 2.0, *[1.0] * 20])}, 5.0)
    assert late.series.settled
    assert late.series.figures(1, 1)["warmup_calls"] == 1 + 3


def test_what_cannot_run_or_dies_does_not_stop_the_others(run):
    scored = []
    measurements, _ = run(
        {"absent": Refused("no GPU; get one"), "dies": iter([1.0, Crashed("signal 11")]), "good": 1.0},
        0,
        score=lambda measurement, _: scored.append(measurement.label),
    )
    assert [(one.status, one.reason) for one in measurements] == [
        ("absent", "no GPU; get one"),
        ("error", "signal 11"),
        ("ok", None),
    ]
    assert scored == ["good"]


def test_a_row_that_dies_while_it_scores_is_an_error(run):
    def score(*_):
        raise Crashed("signal 9")

    (only,), _ = run({"a": 1.0}, 0, score=score)
    assert (only.status, only.reason) == ("error", "signal 9")
