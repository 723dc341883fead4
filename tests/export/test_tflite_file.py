"""What is read out of a TFLite file: its precision as it is, and what it says about itself."""

from __future__ import annotations

import sys

import flatbuffers
import numpy as np
import pytest

from tests.export.tiny_tflite import INPUTS, write_tiny_tflite
from vdeploy import __version__
from vdeploy.core.errors import BundleError, MissingExtraError
from vdeploy.export.tflite import Metadata, found_precision, read_metadata
from vdeploy.export.tflite.flatbuffer import load_schema, open_model, with_buffer
from vdeploy.export.tflite.metadata import add_metadata
from vdeploy.inference.runtimes.litert import LiteRtRuntime
from vdeploy.video.clips import ClipSpec

METADATA = Metadata(("non-violent", "violent"), ClipSpec(frames=4, size=32))


def test_a_float_file_is_fp32(tmp_path):
    write_tiny_tflite(tmp_path / "model.tflite", "fp32")
    assert found_precision(tmp_path / "model.tflite") == "fp32"


@pytest.mark.parametrize("io", ["float32", "int8"])
def test_a_full_integer_file_is_int8_whatever_its_inputs_are(tmp_path, io):
    write_tiny_tflite(tmp_path / "model.tflite", "int8", io=io)
    assert found_precision(tmp_path / "model.tflite") == "int8"


def test_integer_weights_under_float_computation_are_not_int8(tmp_path):
    write_tiny_tflite(tmp_path / "model.tflite", "dynamic")
    found = found_precision(tmp_path / "model.tflite")
    assert found.startswith("mixed (weights INT8; float operators FULLY_CONNECTED")


def test_an_operator_that_fell_back_to_float_is_named(tmp_path):
    import tensorflow as tf

    write_tiny_tflite(tmp_path / "model.tflite", "int8", body=tf.cos)
    found = found_precision(tmp_path / "model.tflite")
    assert found.startswith("mixed (")
    assert "float operators COS;" in found
    assert "integer operators FULLY_CONNECTED" in found


def test_half_precision_weights_are_neither_fp32_nor_int8(tmp_path):
    write_tiny_tflite(tmp_path / "model.tflite", "fp16")
    assert found_precision(tmp_path / "model.tflite").startswith("mixed (weights FLOAT16;")


def test_a_float_network_passed_as_int8_is_not_believed(tmp_path):
    file = tmp_path / "model-int8.tflite"
    write_tiny_tflite(file, "fp32")
    assert found_precision(file) == "fp32"


def test_operators_of_tensorflow_are_named(tmp_path):
    file = tmp_path / "model.tflite"
    write_tiny_tflite(file, "fp32")
    schema = load_schema()
    model = schema.ModelT.InitFromPackedBuf(file.read_bytes(), 0)
    code = next(code for code in model.operatorCodes if code.builtinCode == schema.BuiltinOperator.TANH)
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    code.customCode = "FlexTanh"
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    file.write_bytes(builder.Output())
    assert found_precision(file) == "foreign (FlexTanh)"


def test_metadata_come_back_and_the_file_still_computes(tmp_path):
    before, after = tmp_path / "before.tflite", tmp_path / "after.tflite"
    write_tiny_tflite(before, "int8")
    after.write_bytes(add_metadata(before.read_bytes(), METADATA))
    assert read_metadata(after) == METADATA
    assert read_metadata(after).vdeploy_version == __version__
    assert found_precision(after) == "int8"
    features = np.random.default_rng(1).normal(size=(3, 1, 64)).astype(np.float32)
    expected, actual = (LiteRtRuntime(file, threads=1).infer({INPUTS: features}) for file in (before, after))
    np.testing.assert_array_equal(actual["probabilities"], expected["probabilities"])


def test_buffers_are_aligned_as_the_schema_asks_for(tmp_path):
    file = tmp_path / "model.tflite"
    write_tiny_tflite(file, "int8")
    file.write_bytes(with_buffer(file.read_bytes(), "note", b"odd"))
    model = open_model(file)
    start = np.frombuffer(file.read_bytes(), np.uint8)
    for index in range(model.BuffersLength()):
        buffer = model.Buffers(index)
        if buffer.DataLength():
            place = buffer._tab.Vector(buffer._tab.Offset(4))
            assert place % 16 == 0
            np.testing.assert_array_equal(start[place : place + buffer.DataLength()], buffer.DataAsNumpy())


def test_a_file_without_our_metadata_is_refused(tmp_path):
    write_tiny_tflite(tmp_path / "model.tflite", "fp32")
    with pytest.raises(BundleError, match="holds no metadata of vdeploy"):
        read_metadata(tmp_path / "model.tflite")


@pytest.mark.parametrize("content", [b"not json", b"[]", b'{"labels": ["a", "b"], "clip": {"size": "x"}}'])
def test_metadata_that_make_no_sense_are_refused(tmp_path, content):
    file = tmp_path / "model.tflite"
    write_tiny_tflite(file, "fp32")
    file.write_bytes(with_buffer(file.read_bytes(), "vdeploy", content))
    with pytest.raises(BundleError, match=r"the metadata in .*model\.tflite cannot be read"):
        read_metadata(file)


@pytest.mark.parametrize("read", [found_precision, read_metadata])
def test_a_file_that_is_something_else_is_refused(tmp_path, read):
    (tmp_path / "model.tflite").write_bytes(b"dear diary, this is no model")
    with pytest.raises(BundleError, match=r"model\.tflite is no TFLite file"):
        read(tmp_path / "model.tflite")
    with pytest.raises(BundleError, match="cannot be read"):
        read(tmp_path / "missing.tflite")


def test_without_litert_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert.schema_py_generated", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'vdeploy\[tflite\]'"):
        found_precision(tmp_path / "model.tflite")
