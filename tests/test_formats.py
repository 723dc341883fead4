"""The table of formats, and how a user's list of them is read."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
from pathlib import Path
from typing import get_args

import pytest

from vdeploy import formats
from vdeploy.artifacts.bundle import Stage
from vdeploy.core.errors import ExportError
from vdeploy.formats import FORMATS, OPTIONS, parse_formats, refuse_ignored_options

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"

every_format = pytest.mark.parametrize("entry", FORMATS.values(), ids=lambda entry: entry.name)


def refusal(text: str) -> str:
    with pytest.raises(ExportError) as caught:
        parse_formats(text)
    return str(caught.value)


def test_a_name_gives_its_format():
    assert parse_formats("onnx-fp32") == [FORMATS["onnx-fp32"]]


def test_blanks_around_names_do_not_count():
    assert parse_formats("  onnx-fp32 ") == [FORMATS["onnx-fp32"]]


def test_all_stands_for_the_whole_table_without_repetitions():
    assert parse_formats("all") == list(FORMATS.values())
    assert [entry.name for entry in parse_formats("onnx-int8,all")][:2] == ["onnx-int8", "onnx-fp32"]
    assert len(parse_formats("onnx-int8,all")) == len(FORMATS)


def test_an_option_that_a_format_takes_is_let_pass():
    refuse_ignored_options(parse_formats("onnx-fp32,tensorrt-rtx-fp16"), ["batch", "target_sm"])
    refuse_ignored_options(parse_formats("all"), OPTIONS)
    refuse_ignored_options(parse_formats("onnx-fp32"), [])


@pytest.mark.parametrize(
    ("chosen", "option", "line"),
    [
        ("onnx-fp32", "batch", "onnx-fp32 ignores --batch, did you mean --format tensorrt-fp16?; it is for "),
        ("tensorrt-fp16", "target_sm", "tensorrt-fp16 ignores --target-sm, did you mean --format tensorrt-rtx-fp16?"),
        ("onnx-fp16", "calibration_clips", "onnx-fp16 ignores --calibration-clips, did you mean --format onnx-int8?"),
        ("onnx-fp32,savedmodel", "calibration_clips", "onnx-fp32, savedmodel ignores --calibration-clips"),
    ],
)
def test_an_option_that_every_chosen_format_ignores_is_refused(chosen, option, line):
    with pytest.raises(ExportError) as caught:
        refuse_ignored_options(parse_formats(chosen), [option])
    assert str(caught.value).startswith(line)


@every_format
def test_a_row_takes_options_that_exist(entry):
    assert entry.options <= set(OPTIONS)


@every_format
def test_eight_bits_are_calibrated_on_data_and_judged_by_direction(entry):
    is_int8 = entry.precision == "int8"
    assert entry.needs_data is is_int8
    assert entry.measure == ("direction" if is_int8 else "values")


@pytest.mark.parametrize(
    ("name", "stage", "precision", "accepted"),
    [
        ("onnx-int8", "extractor", "int8", True),
        ("onnx-int8", "extractor", "fp32", False),
        ("onnx-int8", "classifier", "fp32", False),
        ("onnx-int8", "classifier", "mixed: fp32 90 %, int8 10 % of the operations", True),
        ("onnx-fp16", "extractor", "mixed: fp32 90 %, int8 10 % of the operations", False),
        ("tflite-int8", "classifier", "mixed (weights FLOAT32, INT8)", False),
        ("openvino-int8", "extractor", "fp32", False),
        ("openvino-int8", "classifier", "mixed: fp32 99.8 %, int8 0.158 % of the operations", True),
        ("openvino-fp32", "extractor", "fp16", False),
        ("tensorrt-int8", "classifier", "fp16", True),
        ("onnx-fp16", "extractor", "fp32", False),
        ("onnx-fp16", "classifier", "fp32", False),
        ("onnx-fp32", "classifier", "fp16", False),
    ],
)
def test_a_precision_other_than_the_promised_one_is_not_accepted(name, stage, precision, accepted):
    assert FORMATS[name].accepts(stage, precision) is accepted


def test_order_is_kept_and_repetitions_are_dropped(monkeypatch):
    other = dataclasses.replace(FORMATS["onnx-fp32"], name="other")
    monkeypatch.setitem(formats.FORMATS, "other", other)
    assert parse_formats("other,onnx-fp32,other,onnx-fp32") == [other, FORMATS["onnx-fp32"]]


@pytest.mark.parametrize("typed", ["onxx-fp32", "onnx-fp23", "onnx", "onnx_fp32"])
def test_a_slip_of_the_finger_is_answered_with_a_guess(typed):
    assert refusal(typed).startswith(f"there is no format {typed!r}, did you mean onnx-fp32?")


def test_something_else_is_answered_with_what_there_is():
    line = refusal("onnx-fp32,caffe")
    assert line == f"there is no format 'caffe'; known: {', '.join(FORMATS)}, all"


@pytest.mark.parametrize("typed", ["", ",", "onnx-fp32,"])
def test_an_empty_name_is_refused(typed):
    assert refusal(typed).startswith("there is no format ''")


@every_format
def test_a_row_of_the_table_fits_its_key(entry):
    assert FORMATS[entry.name] is entry
    assert entry.name == entry.name.strip().lower()
    assert "," not in entry.name


@every_format
def test_a_row_names_stages_that_exist(entry):
    assert entry.stages
    assert len(set(entry.stages)) == len(entry.stages)
    assert set(entry.stages) <= set(get_args(Stage))


@every_format
def test_a_row_says_its_precision_in_its_name(entry):
    assert entry.name == "savedmodel" or entry.name.endswith(f"-{entry.precision}")


@every_format
def test_a_row_names_a_runtime_that_exists(entry):
    assert importlib.util.find_spec(f"vdeploy.inference.runtimes.{entry.runtime}")


@every_format
def test_a_row_names_an_extra_that_exists(entry):
    extras = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert set(entry.extra.split(",")) <= set(extras)


@every_format
def test_a_row_allows_a_small_difference_and_says_why(entry):
    assert 0 < entry.tolerance <= 0.1
    assert entry.reason


@every_format
def test_a_row_names_a_file_or_folder_not_a_path(entry):
    assert entry.file == Path(entry.file).name
    assert bool(Path(entry.file).suffix) is (entry.writer not in {"savedmodel", "openvino"})
