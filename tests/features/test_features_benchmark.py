"""The benchmark of the extraction runs, on generated and on given clips, and says what it measured."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

FILE = Path(__file__).parents[2] / "benchmarks" / "features.py"
TINY = ("--clips", "2", "--rounds", "1", "--size", "32", "--frames", "2")


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("features_benchmark", FILE)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_ratio_is_taken_within_a_round(benchmark: ModuleType) -> None:
    rounds = [benchmark.Round(cold=cold, network=0.95 * cold, warm=0.01) for cold in (1.0, 2.0, 8.0)]
    result = benchmark.summarise(rounds, frames=16)
    assert (result["ratio"], result["extraction_frames_per_s"]) == (0.95, 8.0)
    assert result["goal_met"]
    assert not benchmark.summarise([benchmark.Round(1.0, 0.8, 0.1)], frames=16)["goal_met"]


def test_it_runs_on_given_clips_and_writes_json(
    benchmark: ModuleType, clips_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "result.json"
    assert benchmark.main([str(clips_dir), *TINY, "--json", "--out", str(out)]) in (0, 1)
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads(out.read_text())
    assert (printed["clips"], printed["source"], printed["frames_per_clip"]) == (2, "clips", 2)
    assert all(printed[key] > 0 for key in ("extraction_frames_per_s", "vgg19_frames_per_s", "warm_speedup", "ratio"))


@pytest.mark.slow
def test_it_runs_on_generated_clips(benchmark: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmark.main(list(TINY)) in (0, 1)
    assert "ratio of the first two" in capsys.readouterr().out


def test_clips_that_are_not_there_are_one_clear_line(
    benchmark: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert benchmark.main([str(tmp_path / "nothing"), *TINY]) == 2
    assert capsys.readouterr().err.startswith("error: ")
