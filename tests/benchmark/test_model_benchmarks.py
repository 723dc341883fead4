"""The benchmarks that compare models: how they search, what they call best, and one real trial of a camera."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import cameras_per_core, models
from benchmarks.camera_trials import CameraServer, Trial, watch_cameras, write_camera_video
from testing.tiny_bundle import make_tiny_bundle
from vdeploy.inference.in_process import LocalScorer


def trial(cameras: int, dropped: int) -> Trial:
    return Trial(cameras, dropped, 0.0, 0.5, 1.0, 0.1, 20.0)


@pytest.mark.parametrize("limit", [0, 1, 2, 3, 5, 8, 21, 64, 100])
def test_the_largest_number_of_cameras_is_found(limit: int) -> None:
    tried: list[int] = []

    def attempt(cameras: int) -> Trial:
        tried.append(cameras)
        return trial(cameras, dropped=0 if cameras <= limit else 7)

    best = cameras_per_core.most_cameras(attempt, 64)
    assert (best.cameras if best else 0) == min(limit, 64)
    assert max(tried) <= 64
    assert all(tried.count(cameras) <= cameras_per_core.ATTEMPTS for cameras in tried)


def test_a_disturbed_trial_is_tried_again() -> None:
    disturbed = {2}

    def attempt(cameras: int) -> Trial:
        fault = cameras in disturbed
        disturbed.discard(cameras)
        return trial(cameras, dropped=int(fault or cameras > 3))

    best = cameras_per_core.most_cameras(attempt)
    assert best is not None
    assert best.cameras == 3


def test_frames_that_are_missing_count_like_dropped_ones() -> None:
    assert Trial(1, 0, 0.01, 0.5, 1.0, 0.1, 20.0).kept_up
    assert not Trial(1, 0, 0.02, 0.5, 1.0, 0.1, 20.0).kept_up
    assert not trial(1, dropped=1).kept_up


def test_ratios_are_those_of_the_best_formats() -> None:
    rows = [
        {"recipe": "default", "format": "a-int8", "precision": "int8", "ms": 300.0, "cameras": 6},
        {"recipe": "default", "format": "b-int8", "precision": "int8", "ms": 400.0, "cameras": 4},
        {"recipe": "edge", "format": "a-int8", "precision": "int8", "ms": 50.0, "cameras": 20},
        {"recipe": "edge", "format": "b-int8", "precision": "int8", "ms": 30.0, "cameras": 30},
        {"recipe": "edge", "format": "c-int8", "precision": "int8", "status": "absent", "cameras": 0},
        {"recipe": "edge", "format": "a-fp32", "precision": "fp32", "ms": 80.0, "cameras": 0},
    ]
    best = {(row["precision"], row["recipe"]): row for row in models.best_rows(rows)}
    assert best["int8", "edge"]["format"] == "b-int8"
    assert (best["int8", "edge"]["times_reference"], best["int8", "edge"]["goal"]) == (10.0, 7.0)
    assert (best["fp32", "edge"]["times_reference"], best["fp32", "edge"]["goal"]) == (None, None)
    assert {row["recipe"]: row["times_reference"] for row in cameras_per_core.best_rows(rows)} == {
        "default": 1.0,
        "edge": 5.0,
    }


@pytest.mark.parametrize("benchmark", [models, cameras_per_core])
def test_an_unknown_recipe_is_one_line(benchmark, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmark.main(["--recipes", "edgy", "--work", str(tmp_path / "work")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "did you mean 'edge'" in line
    assert not (tmp_path / "work").exists()


@pytest.mark.slow
def test_cameras_are_watched(tmp_path: Path) -> None:
    scorer = LocalScorer(make_tiny_bundle(tmp_path / "bundle", frames=8))
    with CameraServer(write_camera_video(tmp_path / "camera.ts")) as server:
        found = watch_cameras(scorer, server, 2, 2.0)
    assert found.cameras == 2
    assert found.missing < 0.5
    assert 0 < found.decoding_share < 1
    assert found.busy_cores > 0
    assert found.latency_ms > 0
