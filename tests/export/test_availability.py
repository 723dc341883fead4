"""What this machine can make, and the reason for the rest."""

from __future__ import annotations

import dataclasses

import pytest

from vdeploy.core.errors import ExportError
from vdeploy.export import availability
from vdeploy.export.availability import obstacle, select_formats
from vdeploy.formats import FORMATS

FLOAT, EIGHT_BITS = FORMATS["onnx-fp32"], FORMATS["onnx-int8"]


def gpu() -> bool:
    return True


def no_gpu() -> bool:
    return False


def test_nothing_stands_in_the_way_of_what_is_installed():
    assert obstacle(FLOAT, has_data=False, gpu=no_gpu) is None


@pytest.mark.parametrize("module", ["no_such_module", "no_such_package.module"])
def test_a_missing_package_is_named_with_its_extra(module):
    kind = dataclasses.replace(FLOAT, modules=("json", module), extra="tflite")
    assert obstacle(kind, has_data=True) == f"needs the Python package {module}: pip install 'vdeploy[tflite]'"


def test_a_missing_gpu_is_named():
    kind = dataclasses.replace(FLOAT, needs_gpu=True)
    assert "needs an NVIDIA GPU" in str(obstacle(kind, has_data=True, gpu=no_gpu))
    assert obstacle(kind, has_data=True, gpu=gpu) is None


def test_missing_data_is_named():
    assert "needs the run's training clips to calibrate on: --data DIR" in str(obstacle(EIGHT_BITS, has_data=False))
    assert obstacle(EIGHT_BITS, has_data=True) is None


def test_all_takes_what_can_be_made_and_gives_the_reason_for_the_rest(monkeypatch):
    monkeypatch.setattr(availability, "has_gpu", no_gpu)
    selection = select_formats("all", has_data=False)
    assert {entry.name for entry in selection.formats} | set(selection.left_out) == set(FORMATS)
    assert FLOAT in selection.formats
    assert "training clips" in selection.left_out["onnx-int8"]
    assert set(selection.left_out).isdisjoint(entry.name for entry in selection.formats)


def test_a_format_that_was_named_is_not_left_out_in_silence():
    with pytest.raises(ExportError, match="onnx-int8 cannot be made here: it needs the run's training clips"):
        select_formats("onnx-int8,all", has_data=False)


def test_a_machine_that_can_make_nothing_is_told(monkeypatch):
    monkeypatch.setattr(availability, "obstacle", lambda *_, **__: "needs a miracle")
    with pytest.raises(ExportError, match="can make none of the formats, the first: onnx-fp32 needs a miracle"):
        select_formats("all", has_data=True)
