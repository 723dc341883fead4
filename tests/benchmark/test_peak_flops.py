"""The machine's peak: the best candidate of each type, measured in a process of its own."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

from vdeploy.benchmark.measure import peak_flops as peaks
from vdeploy.benchmark.measure.machine import gpu_and_driver
from vdeploy.benchmark.measure.peak_flops import find_peaks, measure_peaks
from vdeploy.core.errors import BenchmarkError


def test_each_type_has_the_best_of_its_candidates(monkeypatch):
    costs = {"slow": 4.0, "fast": 2.0, "other": 1.0}
    candidates = [(kind, how, how, 8e9) for kind, how in (("fp32", "slow"), ("fp32", "fast"), ("int8", "other"))]
    monkeypatch.setattr(peaks, "_kernels", lambda _: iter(candidates))
    monkeypatch.setattr(peaks, "_fastest", lambda call, _: costs[call])
    assert [(peak.data_type, peak.gflops, peak.how) for peak in find_peaks(1, 0)] == [
        ("fp32", 4.0, "fast"),
        ("int8", 8.0, "other"),
    ]


def test_without_onnx_numpy_is_the_only_candidate(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(peaks.importlib.util, "find_spec", lambda name: None if name == "onnx" else find(name))
    (only,) = find_peaks(1, 0)
    assert only.data_type == "fp32"
    assert only.how.endswith("numpy")


def test_a_process_that_fails_is_told_with_its_last_line(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(BenchmarkError, match=r"could not be measured \(exit code 1\)"):
        measure_peaks(1, 0)


def test_a_gpu_is_named_as_its_tool_does(monkeypatch):
    answer = subprocess.CompletedProcess([], 0, "NVIDIA RTX 5000 Ada Generation, 550.90.07\nanother, 550\n", "")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: answer)
    assert gpu_and_driver() == ("NVIDIA RTX 5000 Ada Generation", "550.90.07")


def test_without_the_tool_there_is_no_gpu(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert gpu_and_driver() == (None, None)
