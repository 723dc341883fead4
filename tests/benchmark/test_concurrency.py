"""Several callers: really at once, as many calls for each, with other inputs, and none after one has failed."""

from __future__ import annotations

import threading
import time

import pytest

from vdeploy.benchmark.measure.concurrency import run_concurrently
from vdeploy.benchmark.measure.subjects import Subject
from vdeploy.benchmark.measure.worker import Worker
from vdeploy.core.errors import ClientError


def test_callers_call_at_once():
    meeting = threading.Barrier(3, timeout=30)

    def call(_):
        meeting.wait()
        return {}

    run = run_concurrently([call] * 3, 0, 0, rounds=4)
    assert run.calls == 12


def test_inputs_go_on_where_they_were_and_none_is_left_out():
    seen = []
    run_concurrently([lambda index: seen.append(index) or {}] * 2, 10, 0, rounds=3)
    assert sorted(seen) == list(range(10, 16))


def test_calls_go_on_for_the_time_and_are_a_multiple_of_the_callers():
    run = run_concurrently([lambda _: time.sleep(0.002) or {}] * 3, 0, 0.1, rounds=1)
    assert run.calls % 3 == 0
    assert run.calls > 3
    assert run.seconds >= 0.1
    assert all(seconds >= 0.002 for seconds in run.durations)


def test_a_failed_call_ends_those_of_the_others():
    calls = []

    def fail(_):
        raise ClientError("gone")

    with pytest.raises(ClientError, match="gone"):
        run_concurrently([fail, lambda index: calls.append(index) or time.sleep(0.001) or {}], 0, 600, rounds=1)
    assert len(calls) < 10_000


def test_a_window_of_several_callers_leaves_the_first_call_of_each_out():
    worker = Worker(Subject(lambda _: {}, others=(lambda _: {},) * 2))
    assert worker.execute({"warm": 0}) == {"calls": 3}
    answer = worker.execute({"window": 0})
    assert (len(answer["durations"]), answer["untimed"]) == (3, 3)
    assert answer["calls_per_s"] > 0


def test_what_the_server_counts_is_in_the_answer():
    readings = iter([{"extractor": {"requests": 5}}, {"extractor": {"requests": 8}}])
    answer = Worker(Subject(lambda _: {}, counts=lambda: next(readings))).execute({"window": 0})
    assert answer["server"] == {"extractor": {"requests": 3}}
