"""An export needs four times the size of the model in memory, TensorFlow and the proofs included: 558 MB for fc2."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.export_memory import TIMES, make_run

ROOT = Path(__file__).parents[3]


def measure(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.export_memory", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_export_of_fc2_takes_less_than_four_times_its_size(tmp_path):
    run, store = make_run("fc2", tmp_path)
    formats = "onnx-fp32,onnx-int8"
    done = measure(str(run), "--format", formats, "--json", "--", "--store", str(store))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    weights = found["weights_bytes"]
    assert found["limit_bytes"] == TIMES * weights > 4 * 550e6
    assert weights * (1 + 1 / 4) < found["bundle_bytes"] < 1.5 * weights
    assert weights < found["own_bytes"] < TIMES * weights
    assert found["own_bytes"] < found["process_bytes"]
    assert {"extractor in onnx-fp32", "extractor in onnx-int8"} <= set(found["phases"])


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_limit_that_is_too_low_fails(tiny_run, tmp_path):
    done = measure(str(tiny_run.root), "--limit-gb", "0.1", "--", "--store", str(tmp_path / "store"))
    assert done.returncode == 1
    assert done.stderr == "the export took more than 0.10 GB of private memory\n"
    assert "times the FP32 weights (0.08 GB)" in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_an_export_that_fails_is_no_measurement(tiny_run, tmp_path):
    (tmp_path / "empty").mkdir()
    done = measure(str(tiny_run.root), "--", "--data", str(tmp_path / "empty"))
    assert done.returncode == 1
    assert "does not hold the clips" in done.stderr
    assert done.stdout == ""
