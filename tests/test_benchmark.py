"""The benchmark's rows: what is measured, in which order the percentiles lie, and how long it goes on."""

from __future__ import annotations

import dataclasses
import itertools
import os

import numpy as np
import pytest

from tests.tiny_bundle import make_tiny_bundle
from vdeploy.benchmark import latency
from vdeploy.benchmark.latency import Row, benchmark_bundle, cpu_name
from vdeploy.errors import BundleError, ClientError
from vdeploy.runtimes.local import LocalScorer


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_tiny_bundle(tmp_path_factory.mktemp("benchmark") / "bundle").root


@pytest.fixture(scope="module")
def result(bundle):
    return benchmark_bundle(bundle, seconds=0, batch=2)


def test_each_stage_and_the_whole_have_a_row(result):
    assert [(row["what"], row["where"]) for row in result["rows"]] == [
        ("extractor", "in process"),
        ("classifier", "in process"),
        ("pipeline", "in process"),
    ]
    for row in result["rows"]:
        assert list(row) == [field.name for field in dataclasses.fields(Row)]
        assert (row["format"], row["batch"]) == ("onnx-fp32", 2)


def test_the_machine_and_the_bundle_are_named(result, bundle):
    assert list(result) == ["created", "vdeploy", "machine", "bundle", "rows"]
    assert result["bundle"] == str(bundle)
    assert result["machine"]["cores"] == len(os.sched_getaffinity(0))
    assert result["machine"]["cpu"] == cpu_name()
    assert cpu_name()


def test_percentiles_lie_in_order(result):
    for row in result["rows"]:
        assert 0 < row["p50_ms"] <= row["p90_ms"] <= row["p95_ms"] <= row["p99_ms"]
        assert row["clips_per_s"] > 0


def test_a_few_calls_are_timed_however_short_the_time(result):
    assert {row["calls"] for row in result["rows"]} == {5}


def test_more_time_means_more_calls(bundle):
    rows = benchmark_bundle(bundle, seconds=0.3)["rows"]
    assert all(row["calls"] > 5 for row in rows)


def test_the_numbers_are_those_of_the_calls(bundle, monkeypatch):
    now, costs = [0.0], iter([0.5, 0.5, *(0.001 * number for number in range(1, 101))])

    def taking(seconds, answer):
        now[0] += seconds
        return answer

    monkeypatch.setattr(latency.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(latency, "_LEAST_CALLS", 100)
    monkeypatch.setattr(LocalScorer, "extract", lambda *_: taking(0.002, np.zeros((3, 4, 8), np.float32)))
    monkeypatch.setattr(LocalScorer, "classify", lambda *_: taking(0.004, None))
    monkeypatch.setattr(LocalScorer, "score", lambda *_: taking(next(costs), None))
    extractor, classifier, pipeline = benchmark_bundle(bundle, seconds=0, batch=3)["rows"]
    assert (extractor["p50_ms"], extractor["p99_ms"]) == (pytest.approx(2), pytest.approx(2))
    assert classifier["clips_per_s"] == pytest.approx(3 / 0.004)
    assert pipeline["calls"] == 100
    assert pipeline["p50_ms"] == pytest.approx(50.5)
    assert pipeline["p90_ms"] == pytest.approx(90.1)
    assert pipeline["p95_ms"] == pytest.approx(95.05)
    assert pipeline["p99_ms"] == pytest.approx(99.01)
    assert pipeline["clips_per_s"] == pytest.approx(3 / 0.0505)


def test_no_two_calls_in_a_row_see_the_same_clips(bundle, monkeypatch):
    seen = []
    score = LocalScorer.score
    monkeypatch.setattr(LocalScorer, "score", lambda self, frames: (seen.append(frames.sum()), score(self, frames))[1])
    benchmark_bundle(bundle, seconds=0)
    assert len(seen) == 7
    timed = seen[2:]
    assert len(set(timed)) == 4
    assert all(one != other for one, other in itertools.pairwise(timed))


def test_something_else_is_no_bundle(tmp_path):
    with pytest.raises(BundleError, match="is no bundle"):
        benchmark_bundle(tmp_path)


def test_a_format_that_the_bundle_does_not_hold_is_refused(bundle):
    with pytest.raises(BundleError, match="holds no extractor in onnx-int8, only in onnx-fp32"):
        benchmark_bundle(bundle, format_name="onnx-int8")


def test_a_server_that_does_not_answer_is_refused(bundle):
    with pytest.raises(ClientError):
        benchmark_bundle(bundle, url="127.0.0.1:9", seconds=0)
