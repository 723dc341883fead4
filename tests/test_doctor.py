"""What the doctor finds, here and on a machine that has nearly nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from vdeploy.doctor import Finding, examine

ROOT = Path(__file__).parents[1]
NAMES = [
    "Python",
    "av",
    "opencv-python-headless",
    "tensorflow-cpu",
    "TensorFlow GPUs",
    "tf2onnx",
    "onnxruntime",
    "8-bit dot products",
    "openvino",
    "tensorrt",
    "tensorrt-rtx",
    "tritonclient",
    "Triton server",
    "confinement of decoders",
    "VGG19 weights (avg)",
    "VGG19 weights (fc2)",
]


@pytest.fixture(scope="module")
def findings():
    return {finding.name: finding for finding in examine()}


def test_every_part_is_looked_for(findings):
    found = [name.replace("tensorflow", "tensorflow-cpu") if name == "tensorflow" else name for name in findings]
    assert found == NAMES


def test_every_finding_says_what_is_there_or_how_to_get_it(findings):
    for finding in findings.values():
        assert finding.detail, finding
        assert finding.enables, finding
        assert finding.found or finding.remedy, finding


@pytest.mark.parametrize(("saturate", "found"), [(True, False), (False, True)])
def test_a_cpu_that_cuts_off_sums_is_told(monkeypatch, saturate, found):
    monkeypatch.setattr("vdeploy.doctor.sums_saturate", lambda: saturate)
    (finding,) = (each for each in examine() if each.name == "8-bit dot products")
    assert finding.found is found
    assert ("cut off" in finding.detail) is saturate
    assert finding.remedy == ("export INT8 on this machine" if saturate else "")


def test_what_the_tests_run_on_is_found(findings):
    import onnxruntime

    assert findings["Python"].detail.startswith(".".join(str(part) for part in sys.version_info[:3]))
    assert findings["onnxruntime"].found
    assert findings["onnxruntime"].detail.startswith(f"{onnxruntime.__version__}, providers ")
    assert "CPU" in findings["onnxruntime"].detail
    assert findings["opencv-python-headless"].found
    assert findings["tritonclient"].found


def test_weights_are_looked_for_in_keras_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    before = {finding.name: finding for finding in examine()}["VGG19 weights (avg)"]
    assert not before.found
    file = tmp_path / "models" / "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5"
    file.parent.mkdir()
    file.touch()
    after = {finding.name: finding for finding in examine()}["VGG19 weights (avg)"]
    assert after == Finding("VGG19 weights (avg)", True, str(file), before.enables)


def triton() -> Finding:
    return next(finding for finding in examine() if finding.name == "Triton server")


def test_a_server_that_was_not_fetched_is_not_fetched_now(tmp_path, monkeypatch):
    monkeypatch.setenv("VDEPLOY_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert (triton().found, triton().detail) == (False, "not fetched yet")
    assert list(tmp_path.iterdir()) == []


def test_a_server_on_the_path_is_found(tmp_path, monkeypatch):
    binary = tmp_path / "bin" / "tritonserver"
    binary.parent.mkdir()
    binary.write_text("#!/bin/sh\n")
    binary.chmod(0o755)
    (tmp_path / "TRITON_VERSION").write_text("9.8.7\n")
    backend = tmp_path / "backends" / "onnxruntime" / "libtriton_onnxruntime.so"
    backend.parent.mkdir(parents=True)
    backend.touch()
    monkeypatch.setenv("PATH", str(binary.parent))
    assert (triton().found, triton().detail) == (True, "9.8.7, PATH")


BARE = """
    import sys

    for name in ("keras", "onnx", "onnxruntime", "tensorflow", "tf2onnx"):
        sys.modules[name] = None
    sys.argv = ["vdeploy", "doctor", "--json"]
    from vdeploy.cli import main
    main()
"""


def findings_of(*command: str, **environment: str) -> dict[str, dict[str, object]]:
    done = subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return {entry["name"]: entry for entry in json.loads(done.stdout)}


def test_a_machine_without_the_heavy_parts_is_examined():
    findings = findings_of("-c", textwrap.dedent(BARE))
    for name in ("onnxruntime", "TensorFlow GPUs", "tf2onnx"):
        assert not findings[name]["found"], name
        assert "pip install" in findings[name]["remedy"]
    assert all(entry["detail"] for entry in findings.values())


def test_a_damaged_installation_is_told_not_raised(tmp_path):
    for name in ("onnxruntime", "tensorflow"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('libfoo.so.1: cannot open shared object file')\n")
    findings = findings_of("-m", "vdeploy", "doctor", "--json", PYTHONPATH=str(tmp_path))
    for name in ("onnxruntime", "TensorFlow GPUs"):
        assert not findings[name]["found"]
        assert "cannot be imported (libfoo.so.1: cannot open shared object file)" in findings[name]["detail"]


def test_a_system_that_cannot_confine_decoders_is_named(monkeypatch):
    monkeypatch.setattr("vdeploy.doctor.landlock_abi", lambda: 0)
    finding = next(finding for finding in examine() if finding.name == "confinement of decoders")
    assert not finding.found
    assert "lacks Landlock" in finding.detail
    assert "libseccomp2" in finding.remedy
