"""The benchmark of a small bundle: its rows, those that cannot run or were refused, and verdicts on held-out clips."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from testing.openvino_bundle import with_openvino
from testing.tiny_bundle import make_tiny_bundle
from tests.triton.planning.conftest import with_engines
from vdeploy.benchmark.bundle_benchmark import benchmark_bundle
from vdeploy.benchmark.measure.accuracy import HeldOutVideos
from vdeploy.benchmark.measure.candidates import find_candidates
from vdeploy.benchmark.plan import PEERS, Plan, parse_batches, parse_workloads
from vdeploy.core.errors import BenchmarkError, BundleError, ClientError, DatasetError
from vdeploy.core.processor import cpu_name


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_tiny_bundle(tmp_path_factory.mktemp("benchmark") / "bundle")


@pytest.fixture(scope="module")
def result(bundle):
    return benchmark_bundle(bundle.root, Plan(seconds=0, batches=(2,), threads=1))


@pytest.mark.slow
def test_each_stage_and_whole_has_a_row_and_a_video_is_called_alone(result):
    assert [(row.what, row.batch) for row in result.rows] == [
        *(("extractor", 2), ("classifier", 2), ("pipeline", 2), ("video", 1))
    ]
    for row in result.rows:
        assert (row.name, row.format, row.precision, row.runtime) == ("onnx-fp32", "onnx-fp32", "fp32", "onnxruntime")
        assert (row.where, row.device, row.threads, row.status) == ("in process", "cpu", 1, "ok")


@pytest.mark.slow
def test_a_row_tells_of_time_size_and_memory(result, bundle):
    for row in result.rows:
        assert 0 < row.p50_ms <= row.p90_ms <= row.p95_ms <= row.p99_ms
        assert row.frames_per_s == pytest.approx(4 * row.clips_per_s)
        assert row.peak_memory_bytes > 1 << 24
        assert len(row.windows_ms) >= 5
        assert row.spread is not None
        assert row.settled is (row.spread <= 0.1)
    sizes = {artifact.stage: artifact.bytes for artifact in bundle.manifest.artifacts}
    found = {row.what: row.size_bytes for row in result.rows}
    assert found == {**sizes, "pipeline": sum(sizes.values()), "video": sum(sizes.values())}


def test_a_video_row_tells_where_the_time_goes(result):
    *others, video = result.rows
    assert all(row.shares is None for row in others)
    assert video.shares.decode + video.shares.extract + video.shares.classify == pytest.approx(1)
    assert video.shares.transport is None


def test_the_speed_is_set_against_the_peak(result):
    extractor = result.rows[0]
    assert extractor.gflops == pytest.approx(extractor.flop_per_clip * extractor.clips_per_s / 1e9)
    assert extractor.peak_share == pytest.approx(extractor.gflops / result.peak("fp32").gflops)
    assert {peak.data_type for peak in result.peaks} == {"fp32", "int8"}
    assert all(peak.gflops > 0.1 for peak in result.peaks)


def test_the_machine_and_the_bundle_are_named(result, bundle):
    assert result.bundle == str(bundle.root)
    assert result.environment.cores == len(os.sched_getaffinity(0))
    assert result.environment.cpu == cpu_name()
    assert result.environment.threads == 1
    assert "onnxruntime" in result.environment.versions
    assert result.environment.memory_bytes > 1 << 28
    assert result.sha256["extractor/onnx-fp32"] == bundle.manifest.artifacts[0].sha256


@pytest.mark.slow
def test_what_cannot_run_here_and_what_was_refused_are_rows_with_reasons(tmp_path):
    bundle = with_engines(make_tiny_bundle(tmp_path / "bundle"))
    kept = tmp_path / "bundle.rejected"
    kept.mkdir()
    entries = [{"format": "onnx-int8", "reason": "flips verdicts"}, {"format": "onnx-fp32", "reason": "old"}]
    (kept / "rejected.json").write_text(json.dumps(entries))
    rows = benchmark_bundle(bundle.root, Plan(("pipeline",), seconds=0, peers=("tensorflow-predict",))).rows
    told = {row.name: (row.status, row.ranked, row.p50_ms is None) for row in rows}
    assert told.pop("onnx-fp32")[0] == "ok"
    assert told == {
        "tensorrt-fp16": ("absent", False, True),
        "onnx-int8": ("failed parity", False, True),
        "TensorFlow, model.predict": ("absent", False, True),
    }
    reasons = {row.name: row.reason for row in rows}
    assert reasons["onnx-int8"] == "flips verdicts"
    assert "the bundle holds no savedmodel" in reasons["TensorFlow, model.predict"]
    assert "\n" not in reasons["tensorrt-fp16"]


@pytest.mark.slow
def test_openvino_is_measured_once(tmp_path):
    pytest.importorskip("openvino")
    bundle = with_openvino(make_tiny_bundle(tmp_path / "bundle"))
    rows = benchmark_bundle(bundle.root, Plan(("pipeline",), seconds=0, peers=("openvino",))).rows
    assert [(row.name, row.runtime, row.peer, row.status) for row in rows] == [
        ("onnx-fp32", "onnxruntime", False, "ok"),
        ("openvino-fp32", "openvino", False, "ok"),
        ("OpenVINO, onnx-int8", "openvino", True, "absent"),
    ]
    chosen = find_candidates(bundle, ("onnx-fp32",), peers=("openvino",))
    assert [way.name for way in chosen] == ["onnx-fp32", "OpenVINO, onnx-fp32"]


def test_what_lies_beside_the_bundle_must_be_readable(tmp_path):
    bundle = make_tiny_bundle(tmp_path / "bundle")
    (tmp_path / "bundle.rejected").mkdir()
    (tmp_path / "bundle.rejected" / "rejected.json").write_text("{")
    with pytest.raises(BundleError, match=r"rejected\.json cannot be read"):
        benchmark_bundle(bundle.root, Plan(seconds=0))


@pytest.mark.slow
def test_held_out_clips_are_judged_in_every_way(bundle, clips_dir):
    pytest.importorskip("openvino")
    plan = Plan(("pipeline",), seconds=0, peers=("openvino",), data=clips_dir, clips=2)
    result = benchmark_bundle(bundle.root, plan)
    assert result.held_out_sha256 == HeldOutVideos(clips_dir, (), 0.5, 2).sha256
    own, peer = (row for row in result.rows if row.status == "ok")
    for row in (own, peer):
        assert (row.held_out_clips, row.held_out_from, row.agreement) == (2, "this run", 1.0)
        assert 0 <= row.accuracy <= 1
    assert peer.name == "OpenVINO, onnx-fp32"
    assert peer.peer


def test_held_out_clips_are_known_by_their_contents(clips_dir, tmp_path):
    shutil.copytree(clips_dir, tmp_path / "elsewhere")
    found = HeldOutVideos(clips_dir, (), 0.5, None).sha256
    assert HeldOutVideos(tmp_path / "elsewhere", (), 0.9, None).sha256 == found
    assert HeldOutVideos(clips_dir, (), 0.5, 1).sha256 != found


def test_data_without_held_out_clips_are_refused(bundle, tmp_path, clips_dir):
    for folder in ("violent", "non_violent"):
        (tmp_path / folder).mkdir()
        clip = min((clips_dir / folder).glob("*.mp4"))
        (tmp_path / folder / clip.name).symlink_to(clip)
    with pytest.raises(DatasetError, match="no clips to test or validate with"):
        benchmark_bundle(bundle.root, Plan(seconds=0, data=tmp_path))


@pytest.mark.slow
def test_without_data_the_figures_are_those_of_the_export(tiny_bundle_dir):
    result = benchmark_bundle(tiny_bundle_dir, Plan(("extractor", "pipeline"), seconds=0))
    assert result.held_out_sha256 is None
    for row in result.rows:
        assert (row.held_out_from, row.agreement) == ("manifest", 1.0)
        assert row.held_out_clips > 0


def test_something_else_is_no_bundle(tmp_path):
    with pytest.raises(BundleError, match="is no bundle"):
        benchmark_bundle(tmp_path)


def test_a_format_that_the_bundle_does_not_hold_is_refused(bundle):
    with pytest.raises(BundleError, match="holds no extractor in onnx-int8, only in onnx-fp32"):
        benchmark_bundle(bundle.root, Plan(formats=("onnx-int8",)))


def test_a_server_that_does_not_answer_is_refused(bundle):
    with pytest.raises(ClientError):
        benchmark_bundle(bundle.root, Plan(url="127.0.0.1:9", seconds=0))


def test_lists_are_read_and_put_in_order():
    assert parse_workloads("video, extractor") == ("extractor", "video")
    assert parse_batches("8,1, 1") == (1, 8)
    assert len(PEERS) == 3
    with pytest.raises(BenchmarkError, match="there is no workload 'network'; choose from extractor, "):
        parse_workloads("extractor,network")
    for wrong in ("0", "many", "", "1.5"):
        with pytest.raises(BenchmarkError, match="is no batch size"):
            parse_batches(wrong)


def test_verdicts_are_compared_on_the_clips_that_both_have(clips_dir):
    videos = HeldOutVideos(clips_dir, (), 0.5, None)
    one, other = videos.paths[:2]
    figures = videos.figures({one: 0.9, other: 0.8}, {one: 0.2, "elsewhere.mp4": 0.9})
    assert (figures["agreement"], figures["accuracy"], figures["auc"]) == (0.0, 0.5, pytest.approx(0.5, abs=0.5))
    assert videos.figures({one: 0.9}, None)["agreement"] is None
    assert videos.figures({}, {one: 0.9}) == {}
