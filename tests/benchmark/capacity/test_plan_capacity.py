"""Servers for cameras and clips, from what was measured."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from testing.format_copies import with_formats
from testing.tiny_bundle import make_tiny_bundle
from tests.benchmark.records import make_benchmark, make_row
from tests.conftest import Done
from tests.triton.planning.test_tuned_serving import tuned
from vdeploy.artifacts.bundle import Bundle
from vdeploy.benchmark.capacity.plan import camera_load, plan_capacity
from vdeploy.benchmark.record import Benchmark, save_benchmark
from vdeploy.core.errors import BenchmarkError
from vdeploy.inference.format_speeds import Comparison, load_speeds
from vdeploy.inference.machine_record import save_record


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    monkeypatch.setenv("VDEPLOY_CACHE", str(tmp_path / "cache"))
    return with_formats(make_tiny_bundle(tmp_path / "bundle"), "onnx-int8", "openvino-fp32")


def keep_speeds(bundle: Bundle) -> None:
    clip_ms = {"onnx-fp32": 100.0, "openvino-fp32": 50.0}
    comparison = Comparison(measured="2026-11-30T01:02:03+00:00", clip_ms=clip_ms)
    save_record(load_speeds(bundle).model_copy(update={"comparisons": {"fp32": comparison}}))


def a_benchmark(bundle: Bundle, **values: Any) -> Benchmark:
    artifacts = bundle.manifest.artifacts
    held = {f"{artifact.stage}/{artifact.format}": artifact.sha256 for artifact in artifacts}
    slow = make_row(windows_ms=(200.0,) * 5, p99_ms=240.0)
    served = make_row(where="127.0.0.1:8001", windows_ms=(1.0,) * 5, p99_ms=1.0)
    unsettled = make_row(format="onnx-int8", precision="int8", p50_ms=1.0, p99_ms=1.0)
    return make_benchmark([slow, served, unsettled], **{"sha256": held, **values})


@pytest.mark.parametrize(
    ("granularity", "window", "stride", "fps", "expected"),
    [
        ("clip", 2.0, 0.5, 25.0, 2.0),  # every window is a clip
        ("frame", 2.0, 0.5, 25.0, 0.5),  # shared frames are computed once
        ("frame", 2.0, None, 25.0, 0.5),
        ("frame", 2.0, 4.0, 25.0, 0.25),  # windows that do not touch
        ("frame", 2.0, 1.0, 1.0, 0.25),  # a slow camera: 4 frames would be 2 a second
    ],
)
def test_what_a_camera_asks_for(
    bundle: Bundle, granularity: str, window: float, stride: float | None, fps: float, expected: float
) -> None:
    extractor, classifier = bundle.manifest.stages
    stages = (extractor.model_copy(update={"granularity": granularity}), classifier)
    manifest = bundle.manifest.model_copy(update={"stages": stages})
    assert camera_load(manifest, 10, window, stride, fps) == pytest.approx(10 * expected)


def test_servers_follow_from_kept_speeds(bundle: Bundle) -> None:
    keep_speeds(bundle)
    fast, slow = plan_capacity(bundle, 100.0, 500.0, [], None)
    assert (fast.figure.format, slow.figure.format) == ("openvino-fp32", "onnx-fp32")
    assert 5 < fast.servers < slow.servers
    for need in (fast, slow):
        assert need.servers >= 100 / need.per_server > need.servers - 1
        assert need.busy is not None
        assert 0.4 < need.busy < 1
        assert need.p99_ms is not None
        assert need.p99_ms <= 500
        assert need.simulated_ms == pytest.approx(need.p99_ms, rel=0.3)
    (tight,) = plan_capacity(bundle, 100.0, 60.0, [], {"onnx-fp32"})
    assert (tight.servers, tight.per_server) == (0, 0)
    (few,) = plan_capacity(bundle, 0.01, 500.0, [], {"onnx-fp32"})
    assert few.servers == 1


def test_a_benchmark_tells_more_than_the_cache(bundle: Bundle) -> None:
    keep_speeds(bundle)
    needs = plan_capacity(bundle, 10.0, 1000.0, [a_benchmark(bundle), a_benchmark(bundle, sha256={"a": "b"})], None)
    figures = {need.figure.format: need.figure for need in needs}
    assert sorted(figures) == ["onnx-fp32", "openvino-fp32"]
    assert figures["onnx-fp32"].clip_s == 0.2
    assert figures["onnx-fp32"].variation == pytest.approx(0.086, abs=0.001)
    assert figures["onnx-fp32"].machine == "2 cores of Some CPU"
    assert figures["openvino-fp32"].clip_s == 0.05


def test_a_tuned_server_counts_for_its_objective_and_looser_ones(bundle: Bundle) -> None:
    tuned(bundle)  # 14.21 clips/s, 13.1 to 15, with a p99 of 200 ms
    (need,) = plan_capacity(bundle, 142.0, 200.0, [], None)
    assert (need.figure.format, need.figure.precision) == ("onnx-int8", "int8")
    assert (need.servers, need.least, need.most) == (10, 10, 11)
    assert plan_capacity(bundle, 142.0, 900.0, [], None) == [need]
    with pytest.raises(BenchmarkError, match=r"the speed of .* is not known"):
        plan_capacity(bundle, 142.0, 199.0, [], None)


def test_a_rate_of_frames_is_no_rate_of_whole_clips(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    save_record(tuned(bundle).model_copy(update={"load": "frames"}))
    with pytest.raises(BenchmarkError, match=r"the speed of .* is not known"):
        plan_capacity(bundle, 142.0, 200.0, [], None)
    assert "was measured with frames, and counts for cameras" in capsys.readouterr().err.replace("\n", " ")
    (need,) = plan_capacity(bundle, 142.0, 200.0, [], None, of_cameras=True)
    assert need.servers == 10
    assert need.figure.source == "vdeploy tune-serving --load frames"
    assert capsys.readouterr().err == ""


def test_a_rate_of_streams_whose_windows_share_frames_is_no_rate_of_whole_windows(
    bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    extractor, classifier = bundle.manifest.stages
    stages = (extractor.model_copy(update={"granularity": "clip"}), classifier)
    bundle.manifest = bundle.manifest.model_copy(update={"stages": stages})
    save_record(tuned(bundle).model_copy(update={"load": "streams"}))
    with pytest.raises(BenchmarkError, match=r"the speed of .* is not known"):
        plan_capacity(bundle, 142.0, 200.0, [], None, of_cameras=True)
    assert "counts the windows of such a model as whole clips" in capsys.readouterr().err.replace("\n", " ")


@pytest.fixture
def vdeploy(vdeploy: Callable[..., Done]) -> Callable[..., tuple[str, str]]:
    def run(*arguments: object, code: int = 0) -> tuple[str, str]:
        done = vdeploy("plan", *arguments)
        assert done.code == code
        return done.out, done.err

    return run


def test_the_command(bundle: Bundle, tmp_path: Path, vdeploy: Callable[..., tuple[str, str]]) -> None:
    save_benchmark(tmp_path / "b.json", a_benchmark(bundle))
    asked = ("bundle", "--cameras", 200, "--stride", 1, "--window", 2, "--measured", "b.json")
    text, _ = vdeploy(*asked)
    assert "bundle: 100 clips/s, p99 within 1000 ms" in text
    assert "vdeploy benchmark, 2 cores of Some CPU" in text
    (found,) = json.loads(vdeploy(*asked, "--json")[0])
    assert found["clips_per_s"] == 100
    assert found["needs"][0]["servers"] > 20
    assert "p99 by the formula of Pollaczek and Khinchine, and by simulation" in text
    save_record(tuned(bundle).model_copy(update={"load": "frames"}))
    assert "vdeploy tune-serving --load frames, " in vdeploy(*asked)[0]
    assert "tune-serving" not in vdeploy("bundle", "--clips-per-second", 100, "--measured", "b.json")[0]
    two = json.loads(vdeploy("bundle", "bundle", "--clips-per-second", 7, "--measured", "b.json", "--json")[0])
    assert [entry["clips_per_s"] for entry in two] == [7, 7]


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (("bundle",), 2, "either --cameras or --clips-per-second"),
        (("bundle", "--cameras", 1, "--clips-per-second", 1), 2, "either --cameras or --clips-per-second"),
        (("bundle", "--cameras", 0), 2, "--cameras"),
        (("bundle", "--cameras", 1, "--fps", "nan"), 2, "--fps"),
        (("bundle", "--cameras", 1), 1, "vdeploy benchmark bundle --what pipeline --out FILE"),
        (("bundle", "--cameras", 1, "--format", "tflite-int8"), 1, "the speed of bundle in tflite-int8 is not known"),
        (("bundle", "--cameras", 1, "--measured", "none.json"), 1, "none.json cannot be read"),
        (("missing", "--cameras", 1), 1, "missing is no bundle"),
    ],
)
def test_bad_input(
    bundle: Bundle, vdeploy: Callable[..., tuple[str, str]], arguments: tuple[object, ...], code: int, reason: str
) -> None:
    assert reason in vdeploy(*arguments, code=code)[1]
