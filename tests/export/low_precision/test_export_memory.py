"""An export of the fc2 extractor, 574 MB with its last layer, fits beside the network that it comes from."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("kind", "precision", "share"), [("onnx-fp32", "fp32", 1), ("onnx-fp16", "fp16", 0.5), ("onnx-int8", "int8", 0.25)]
)
def test_the_export_of_fc2_takes_less_than_four_times_its_size(kind, precision, share):
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.export_memory", "--layer", "fc2", "--format", kind, "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["fp32_bytes"] > 550e6
    assert found["precision"] == precision
    assert found["file_bytes"] / found["fp32_bytes"] == pytest.approx(share, rel=0.01)
    assert found["peak_bytes"] < 4 * found["fp32_bytes"]
