"""Several callers: really at once, as many calls for each, with other inputs, and none after one has failed."""

from __future__ import annotations

import threading
import time

import pytest

from vdeploy.benchmark.measure.concurrency import call_together
from vdeploy.benchmark.measure.worker import Performer
from vdeploy.benchmark.measure.workloads import Subject
from vdeploy.core.errors import ClientError


def test_callers_call_at_once():
    meeting = threading.Barrier(3, timeout=30)

    def call(_):
        meeting.wait()
        return {}

    flight = call_together([call] * 3, 0, 0, rounds=4)
    assert flight.calls == 12


def test_inputs_go_on_where_they_were_and_none_is_left_out():
    seen = []
    call_together([lambda index: seen.append(index) or {}] * 2, 10, 0, rounds=3)
    assert sorted(seen) == list(range(10, 16))


def test_calls_go_on_for_the_time_and_are_a_multiple_of_the_callers():
    flight = call_together([lambda _: time.sleep(0.002) or {}] * 3, 0, 0.1, rounds=1)
    assert flight.calls % 3 == 0
    assert flight.calls > 3
    assert flight.seconds >= 0.1
    assert all(seconds >= 0.002 for seconds in flight.durations)


def test_a_failed_call_ends_those_of_the_others():
    calls = []

    def fail(_):
        raise ClientError("gone")

    with pytest.raises(ClientError, match="gone"):
        call_together([fail, lambda index: calls.append(index) or time.sleep(0.001) or {}], 0, 600, rounds=1)
    assert len(calls) < 10_000


def test_a_window_of_several_callers_leaves_the_first_call_of_each_out():
    performer = Performer(Subject(lambda _: {}, others=(lambda _: {},) * 2))
    assert performer.obey({"warm": 0}) == {"calls": 3}
    answer = performer.obey({"window": 0})
    assert (len(answer["durations"]), answer["untimed"]) == (3, 3)
    assert answer["calls_per_s"] > 0


def test_what_the_server_counts_is_told_by_the_window():
    readings = iter([{"extractor": {"requests": 5}}, {"extractor": {"requests": 8}}])
    answer = Performer(Subject(lambda _: {}, counts=lambda: next(readings))).obey({"window": 0})
    assert answer["server"] == {"extractor": {"requests": 3}}
