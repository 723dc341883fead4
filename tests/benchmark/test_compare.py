"""Comparing two benchmarks: verdicts, what is missing on a side, and what else is not the same."""

from __future__ import annotations

import json

import pytest

from tests.benchmark.records import ENVIRONMENT, PEAKS, make_benchmark, make_row, steady
from vdeploy.benchmark.compare.comparison import compare
from vdeploy.benchmark.compare.environment_diff import differences
from vdeploy.benchmark.report.labels import label, labels
from vdeploy.core.errors import BenchmarkError


def row(name, middle, seed, **values):
    return make_row(name=name, windows_ms=steady(middle, seed=seed, spread=0.004), **values)


BEFORE = make_benchmark([row(name, 10, seed) for seed, name in enumerate("abcdef")])


def test_verdicts():
    rows = [
        row(name, middle, 50 + seed)
        for seed, (name, middle) in enumerate(zip("abcdef", (10, 11, 9, 10, 10, 10), strict=True))
    ]
    result = compare(BEFORE, make_benchmark(rows))
    assert [change.verdict for change in result.changes] == ["same", "slower", "faster", "same", "same", "same"]
    assert [change.label for change in result.regressions] == ["pipeline b, batch 1"]
    slower = result.changes[1]
    assert slower.ratio == pytest.approx(1.1, rel=0.01)
    assert 1.03 < slower.interval[0] < slower.ratio < slower.interval[1]
    assert (slower.before_ms, slower.after_ms) == (BEFORE.rows[1].p50_ms, rows[1].p50_ms)


def test_noise_that_hides_the_limit_leaves_it_unclear():
    noisy = [make_row(name="a", windows_ms=steady(10, spread=0.12, seed=seed)) for seed in (1, 2)]
    [change] = compare(make_benchmark(noisy[:1]), make_benchmark(noisy[1:])).changes
    assert change.verdict == "unclear"


def test_the_limit_decides_what_counts():
    after = make_benchmark([row("a", 11, 50)])
    assert [compare(BEFORE, after, limit).changes[0].verdict for limit in (0.0, 0.03, 0.2)] == [
        "slower",
        "slower",
        "same",
    ]
    for limit in (-0.1, float("inf"), float("nan")):
        with pytest.raises(BenchmarkError, match="is no limit; give 0 % or more"):
            compare(BEFORE, after, limit)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"status": "failed parity", "reason": "0.3 off"}, "failed parity after: 0.3 off"),
        ({"status": "absent"}, "absent after"),
        ({"windows_ms": steady(10), "settled": False}, "did not settle after"),
        ({"windows_ms": (10.0, 10.0, 10.0)}, "fewer than 4 windows after; measure for longer: --seconds"),
    ],
)
def test_a_row_without_sound_timings_is_not_judged(values, reason):
    after = make_benchmark([make_row(name="a", **values), row("b", 10, 50)])
    first, second = compare(BEFORE, after).changes
    assert (first.verdict, first.reason, first.ratio) == ("not judged", reason, None)
    assert second.verdict == "same"
    assert compare(after, BEFORE).changes[0].reason == reason.replace("after", "before")


def test_rows_of_one_side_are_named_and_what_is_served_elsewhere_is_the_same_row():
    before = make_benchmark(
        [row("a", 10, 1), row("a", 10, 2, where="one:8001", transport="grpc"), row("a", 10, 3, batch=8)]
    )
    after = make_benchmark([row("a", 10, 4, threads=1), row("a", 10, 5, where="other:9001", transport="grpc")])
    result = compare(before, after)
    assert [change.label for change in result.changes] == ["pipeline a, batch 1, served over grpc"]
    assert result.only_before == ("pipeline a, batch 1, fp32 in onnxruntime, 2 threads", "pipeline a, batch 8")
    assert result.only_after == ("pipeline a, batch 1, fp32 in onnxruntime, 1 threads",)


def test_nothing_in_common_is_refused():
    with pytest.raises(BenchmarkError, match="no row in common; measure the same"):
        compare(BEFORE, make_benchmark([row("g", 10, 1)]))
    environment = ENVIRONMENT.model_copy(update={"threads": 1})
    with pytest.raises(BenchmarkError, match=r"no row in common \(threads: 2, then 1\); measure the same"):
        compare(BEFORE, make_benchmark([row("a", 10, 1, threads=1)], environment=environment))


def test_the_result_is_json():
    after = make_benchmark([row("a", 12, 50), make_row(name="b", status="absent")])
    values = json.loads(json.dumps(compare(BEFORE, after).to_dict(), allow_nan=False))
    assert values["regressions"] == ["pipeline a, batch 1"]
    assert values["changes"][1]["verdict"] == "not judged"


def test_labels_name_what_is_unusual_only():
    plain = make_row()
    assert label(plain) == "pipeline onnx-fp32, batch 1"
    served = make_row(where="h:1", transport="shared memory", concurrency=4, device="gpu:0", batch=8)
    assert label(served) == "pipeline onnx-fp32, batch 8, served over shared memory, 4 callers, gpu:0"
    assert label(make_row(where="h:1")) == "pipeline onnx-fp32, batch 1, served"
    named = labels([plain, plain, served, make_row(runtime="openvino")])
    assert sorted(named.values()) == [
        "pipeline onnx-fp32, batch 1, fp32 in onnxruntime, 2 threads",
        "pipeline onnx-fp32, batch 1, fp32 in openvino, 2 threads",
        label(served),
    ]


def test_two_benchmarks_of_one_machine_and_bundle_differ_in_nothing():
    assert not list(differences(BEFORE, BEFORE))


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"cpu": "Other CPU"}, "cpu: Some CPU, then Other CPU"),
        ({"cores": 8}, "cores: 2, then 8"),
        ({"threads": 1}, "threads: 2, then 1"),
        ({"memory_bytes": None}, "memory: 17179869184, then none"),
        ({"gpu": "A card"}, "gpu: none, then A card"),
        ({"python": "3.13.1"}, "version of Python: 3.11.2, then 3.13.1"),
        ({"clocks_mhz": (1300.0, 1300.0)}, "clock at the start: 2601 MHz, then 1300 MHz"),
        (
            {"load_average": (4.0, 1.0, 1.0)},
            "load average at the start: 0.1, then 4.0; the machine was not equally busy",
        ),
        ({"versions": {"onnxruntime": "1.31"}}, "version of onnxruntime: 1.30, then 1.31"),
        ({"versions": {"onnxruntime": "1.30"}}, "version of tensorflow-cpu: 2.21.0, then none"),
    ],
)
def test_another_environment_is_told(changes, line):
    other = BEFORE.model_copy(update={"environment": ENVIRONMENT.model_copy(update=changes)})
    assert line in list(differences(BEFORE, other))


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"clip_frames": 8},
            (
                "clips: 16 frames of 224 px, features avg, then 8 frames of 224 px, features avg; "
                "the latencies are of different work"
            ),
        ),
        ({"vdeploy_version": "0.2.0"}, "version of vdeploy: 0.1.0, then 0.2.0"),
        ({"sha256": {"classifier": "1" * 64}}, "classifier: not the same file"),
        (
            {"peaks": (PEAKS[0].model_copy(update={"gflops": 300.0}),)},
            "measured fp32 peak: 400, then 300 GFLOP/s (-25%); the machine was not equally fast",
        ),
    ],
)
def test_another_bundle_or_a_slower_machine_is_told(changes, line):
    assert list(differences(BEFORE, BEFORE.model_copy(update=changes))) == [line]


def test_little_load_and_small_changes_of_clock_and_peak_are_noise():
    environment = ENVIRONMENT.model_copy(update={"load_average": (0.8, 0.2, 0.3), "clocks_mhz": (2650.0, 2650.0)})
    peaks = tuple(peak.model_copy(update={"gflops": 0.97 * peak.gflops}) for peak in PEAKS)
    assert not list(differences(BEFORE, BEFORE.model_copy(update={"environment": environment, "peaks": peaks})))
