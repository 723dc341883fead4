"""The record of how fast formats are, and the choice in this process by it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from testing.format_copies import with_formats
from testing.tiny_bundle import make_tiny_bundle
from vdeploy.artifacts.bundle import Bundle
from vdeploy.formats import FORMATS, Format
from vdeploy.inference import format_speeds
from vdeploy.inference.format_speeds import Comparison, SpeedRecord, fastest_here, load_speeds
from vdeploy.inference.machine_record import save_record
from vdeploy.inference.open_scorer import open_scorer
from vdeploy.inference.runtimes.registry import _CLASSES, is_installed


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """Its usual format is `onnx-fp32`; `openvino-fp32` is of the same precision."""
    monkeypatch.setenv("VDEPLOY_CACHE", str(tmp_path / "cache"))
    return with_formats(make_tiny_bundle(tmp_path / "bundle"), "openvino-fp32", "onnx-int8")


@pytest.fixture(autouse=True)
def _everything_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(format_speeds, "is_installed", lambda _: True)


def measure(bundle: Bundle, **clip_ms: float) -> SpeedRecord:
    named = {f"{name}-fp32": milliseconds for name, milliseconds in clip_ms.items()}
    comparison = Comparison(measured="2026-11-30T01:02:03+00:00", clip_ms=named)
    record = load_speeds(bundle).model_copy(update={"comparisons": {"fp32": comparison}})
    save_record(record)
    return record


def test_without_a_record_the_usual_format_runs(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert load_speeds(bundle).comparisons == {}
    assert fastest_here(bundle) == "onnx-fp32"
    assert capsys.readouterr().err == ""


def test_the_fastest_runs_and_the_reason_is_told(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    measure(bundle, onnx=1607.4, openvino=163.2)
    assert fastest_here(bundle) == "openvino-fp32"
    assert "openvino-fp32: 163 ms a clip here, onnx-fp32: 1607 ms, measured 2026-11-30" in capsys.readouterr().err
    measure(bundle, onnx=9.87, openvino=163)
    assert fastest_here(bundle) == "onnx-fp32"
    assert "onnx-fp32: 9.87 ms a clip here, openvino-fp32: 163 ms" in capsys.readouterr().err


def test_predict_and_the_gateway_open_it(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vdeploy.inference.in_process.LocalScorer", lambda _, name: name)
    measure(bundle, onnx=607, openvino=163)
    for asked, opened in ((None, "openvino-fp32"), ("onnx-int8", "onnx-int8"), ("onnx-fp32", "onnx-fp32")):
        with open_scorer(bundle=bundle.root, format_name=asked) as scorer:
            assert scorer == opened


def test_a_runtime_that_is_not_installed(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    measure(bundle, onnx=607, openvino=163)
    monkeypatch.setattr(format_speeds, "is_installed", lambda kind: kind.runtime != "openvino")
    assert fastest_here(bundle) == "onnx-fp32"


def test_a_usual_format_that_is_not_installed(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = with_formats(bundle, "tflite-fp32")
    measure(changed, onnx=1, openvino=20, tflite=10)
    monkeypatch.setattr(format_speeds, "is_installed", lambda kind: kind.runtime != "onnxruntime")
    assert fastest_here(changed) == "tflite-fp32"


def test_a_usual_format_that_was_not_measured_stays(bundle: Bundle) -> None:
    changed = with_formats(bundle, "tflite-fp32")
    measure(changed, tflite=1, openvino=2)
    assert fastest_here(changed) == "onnx-fp32"


@pytest.mark.parametrize(("name", "value"), [("cpu_name", "Another CPU"), ("available_cores", 999)])
def test_a_record_of_another_machine(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str | int
) -> None:
    own = measure(bundle, onnx=607, openvino=163)
    monkeypatch.setattr(format_speeds, name, lambda: value)
    assert fastest_here(bundle) == "onnx-fp32"
    shutil.copyfile(own.path, load_speeds(bundle).path)  # under the name of the other machine's
    assert fastest_here(bundle) == "onnx-fp32"
    assert "is of another bundle or machine and is ignored" in capsys.readouterr().err


def test_a_record_of_another_bundle(bundle: Bundle, tmp_path: Path) -> None:
    other = with_formats(make_tiny_bundle(tmp_path / "other", seed=1), "openvino-fp32")
    measure(other, onnx=607, openvino=163)
    assert fastest_here(bundle) == "onnx-fp32"
    assert fastest_here(other) == "openvino-fp32"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[1, 2]",
        b'{"kind": "vdeploy benchmark"}',
        {"clip_ms": {"onnx-fp32": 607, "openvino-fp32": -1}},
        {"clip_ms": {"onnx-fp32": 607, "openvino-fp32": "NaN"}},
        {"measured": "yesterday"},
    ],
)
def test_a_damaged_record_is_ignored(
    bundle: Bundle, capsys: pytest.CaptureFixture[str], content: bytes | dict[str, object]
) -> None:
    path = measure(bundle, onnx=607, openvino=163).path
    if isinstance(content, dict):
        values = json.loads(path.read_bytes())
        values["comparisons"]["fp32"] |= content
        content = json.dumps(values).encode()
    path.write_bytes(content)
    assert fastest_here(bundle) == "onnx-fp32"
    said = capsys.readouterr().err
    assert re.search(r"speeds: .*\.json is damaged \(.+\) and is ignored; measure again: vdeploy benchmark ", said)
    assert said.count("\n") == 1


def test_a_record_that_cannot_be_read(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    path = load_speeds(bundle).path
    path.mkdir(parents=True)
    assert fastest_here(bundle) == "onnx-fp32"
    assert "cannot be read (Is a directory) and is ignored" in capsys.readouterr().err


@pytest.mark.parametrize("kind", FORMATS.values(), ids=lambda kind: kind.name)
def test_the_last_module_of_a_format_runs_it(kind: Format) -> None:
    assert kind.modules[-1].replace("ai_edge_litert", "litert").removesuffix("_rtx") == kind.runtime
    assert kind.runtime in _CLASSES


def test_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_installed(FORMATS["onnx-fp32"])
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert not is_installed(FORMATS["onnx-fp32"])
