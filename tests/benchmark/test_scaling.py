"""Scaling studies: turns, what was measured, files, and which study goes with what."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from testing.tiny_bundle import make_tiny_bundle
from training.engine.epoch_plan import FeatureSplit
from training.engine.precision import Precision
from training.engine.step_benchmark import EpochTimer, synthetic_split
from training.recipe import load_recipe
from vdeploy.benchmark.scaling import measurements as scaling
from vdeploy.benchmark.scaling.measurements import Probe, ScalePoint, Study, run_study
from vdeploy.benchmark.scaling.output import CHART, NUMBERS, scaling_report, write_scaling
from vdeploy.benchmark.scaling.selection import DEFAULT_BATCHES, choose_studies
from vdeploy.benchmark.scaling.studies import bundle_studies, run_studies
from vdeploy.core.errors import BenchmarkError, BundleError, RecipeError, RunError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_tiny_bundle(tmp_path_factory.mktemp("scaling") / "bundle").root


STUDY = Study(
    "classifier <b>",
    "batch",
    tuple(ScalePoint(value, 5, 0.1 * value, 0.09 * value, 0.12 * value, 10.0, 1.0) for value in (1, 2, 4)),
)


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still unless something moves it."""
    now = [0.0]
    monkeypatch.setattr(scaling.time, "perf_counter", lambda: now[0])
    return now


def test_probes_take_turns_and_every_time_counts_but_the_warm_up(clock):
    called = []

    def probe(value, costs):
        steps = iter(costs)

        def call():
            called.append(value)
            clock[0] += next(steps)

        return Probe(value, 10 * value, call)

    probes = [probe(1, [9, 1, 2, 3, 4, 5]), probe(2, [9, 4, 4, 4, 4, 4])]
    study = run_study("work", "batch", probes, 0)
    assert called == [1, 2] * 6
    first, second = study.points
    assert (first.value, first.calls, first.seconds) == (1, 5, 3)
    assert (first.p10_seconds, first.p90_seconds) == pytest.approx((1.4, 4.6))
    assert (first.clips_per_s, second.clips_per_s) == (pytest.approx(10 / 3), 5)
    assert (first.times_first, second.times_first) == (1, pytest.approx(1.5))


def test_more_time_means_more_calls_in_each_turn(clock):
    def call():
        clock[0] += 0.125

    [point] = run_study("work", "batch", [Probe(1, 1, call)], 5.0).points
    assert point.calls == 5 * 8


def test_a_bundle_is_measured_at_each_batch(bundle):
    classifier, pipeline = bundle_studies(bundle, (1, 4), pipeline=True, threads=1, seconds=0)
    assert (classifier.what, pipeline.what) == ("classifier, onnx-fp32", "pipeline, onnx-fp32")
    for study in (classifier, pipeline):
        assert [point.value for point in study.points] == [1, 4]
        assert all(point.calls == 5 and point.clips_per_s > 0 for point in study.points)
    with pytest.raises(BundleError, match="holds no extractor in onnx-int8"):
        bundle_studies(bundle, (1,), format_name="onnx-int8")


def test_the_epoch_timer_trains_on_every_clip():
    split = synthetic_split(20, 3, 6)
    assert (split.features.shape, split.features.dtype, split.features.min()) == ((20, 3, 6), np.float16, 0)
    assert split.labels.tolist() == [0, 1] * 10
    recipe = load_recipe("default", ["training.batch=8", "head.units=4", "head.dense=4"])
    timer = EpochTimer(split, recipe, Precision("float32", False), ("cpu:0",))
    before = timer._loop.weights()
    assert timer.run() > 0
    assert any((one != other).any() for one, other in zip(before, timer._loop.weights(), strict=True))
    assert timer.run() > 0
    with pytest.raises(RecipeError, match="gpu:7"):
        EpochTimer(FeatureSplit(split.features, split.labels), recipe, Precision("float32", False), ("gpu:7",))


@pytest.mark.slow
def test_a_run_is_trained_at_each_batch_and_size(tiny_run):
    by_batch, by_clips = run_studies(tiny_run.root, batches=(64, 128), clips=(16, 40), seconds=0)
    assert (by_batch.axis, by_clips.axis) == ("batch", "clips")
    assert by_batch.what.startswith("training in ")
    assert by_clips.what == "epoch of training, batch 8"
    assert [point.value for point in by_clips.points] == [16, 40]
    assert by_clips.points[0].clips_per_s == pytest.approx(16 / by_clips.points[0].seconds)


def test_devices_that_are_not_there_are_refused(tiny_run):
    with pytest.raises(BenchmarkError, match=r"--devices asks for 99, this machine has .* --logical-cpus"):
        run_studies(tiny_run.root, devices=(1, 99))
    with pytest.raises(RunError, match="no finished run"):
        run_studies(tiny_run.root / "nowhere")


@pytest.mark.slow
def test_parts_of_a_cpu_are_devices_where_that_is_said(tiny_run, tmp_path):
    options = ("--devices", "1,2", "--logical-cpus", "--seconds", "0", "--out", tmp_path, "--json")
    command = [sys.executable, "-m", "vdeploy", "benchmark", "scale", tiny_run.root, *options]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True, cwd=ROOT)
    report = json.loads(done.stdout)
    assert report == json.loads((tmp_path / NUMBERS).read_text())
    [study] = report["studies"]
    assert study["what"] == "training, batch 8, on devices that are parts of one CPU"
    assert [point["value"] for point in study["points"]] == [1, 2]


def test_numbers_and_chart_are_written(tmp_path):
    report = scaling_report(Path("runs/mine"), [STUDY, STUDY])
    write_scaling(tmp_path / "deep", report, [STUDY, STUDY])
    assert json.loads((tmp_path / "deep" / NUMBERS).read_text()) == json.loads(json.dumps(report))
    assert report["environment"]["cores"] > 0
    chart = (tmp_path / "deep" / CHART).read_text()
    assert chart.count("clips per batch") == 2
    assert "classifier &lt;b&gt;" in chart
    (tmp_path / "file").touch()
    with pytest.raises(BenchmarkError, match=r"cannot write to .*--out FOLDER"):
        write_scaling(tmp_path / "file", report, [STUDY])


def test_the_folder_decides_what_is_studied(bundle, tiny_run):
    [study] = choose_studies(bundle, seconds=0)
    assert tuple(point.value for point in study.points) == DEFAULT_BATCHES
    [study] = choose_studies(tiny_run.root, clips="8", seconds=0)
    assert study.axis == "clips"


@pytest.mark.parametrize(("option", "value"), [("devices", "1"), ("clips", "100"), ("logical_cpus", True)], ids=str)
def test_a_bundle_does_not_train(bundle, option, value):
    with pytest.raises(BenchmarkError, match=f"--{option.replace('_', '-')} does not apply to .* a bundle; give a run"):
        choose_studies(bundle, **{option: value})


@pytest.mark.parametrize(("option", "value"), [("pipeline", True), ("format_name", "onnx-fp32"), ("threads", 1)])
def test_a_run_has_no_formats(tiny_run, option, value):
    with pytest.raises(BenchmarkError, match=f"--{option.split('_')[0]} does not apply to .* a run; give a bundle"):
        choose_studies(tiny_run.root, **{option: value})


@pytest.mark.parametrize("text", ["", "8,", "0", "-8", "8,8", "8;16", "2.5", "\N{SUPERSCRIPT TWO}"])
def test_a_list_of_numbers_is_checked_before_anything_runs(tmp_path, text):
    with pytest.raises(
        BenchmarkError, match="no list of different positive whole numbers; write it like --batch 16,32,64"
    ):
        choose_studies(tmp_path, batch=text)


def test_something_else_is_refused(tmp_path):
    with pytest.raises(BenchmarkError, match="neither a run nor a bundle"):
        choose_studies(tmp_path)
