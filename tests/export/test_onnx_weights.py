"""Models whose large weights stay in a file: the same numbers, the same bytes when written, and little memory."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from vdeploy.core.errors import BundleError
from vdeploy.export.onnx.convert import extractor_to_onnx
from vdeploy.export.onnx.external_weights import is_reference, open_onnx, weight_values
from vdeploy.export.onnx.file import write_onnx
from vdeploy.export.onnx.float16 import to_float16
from vdeploy.export.onnx.inspection import inspect_onnx
from vdeploy.export.quantization import CPU
from vdeploy.export.quantization.qdq import tensors_to_calibrate, write_qdq


@pytest.fixture(scope="module")
def extractor(tiny_run):
    return tiny_run.extractor()


@pytest.fixture(scope="module")
def whole(extractor):
    return extractor_to_onnx(extractor)


@pytest.fixture(scope="module")
def file(whole, tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "model.onnx"
    path.write_bytes(whole.SerializeToString(deterministic=True))
    return path


def test_large_weights_stay_in_the_file_and_small_ones_do_not(file):
    model = open_onnx(file)
    assert model.ByteSize() < 1e5
    assert file.stat().st_size > 8e7
    outside = {tensor.name for tensor in model.graph.initializer if is_reference(tensor)}
    assert "block5_conv4/kernel" in outside
    assert not {"mean", "frame_shape", "block1_conv1/bias"} & outside


def test_they_are_the_same_numbers(whole, file):
    for light, heavy in zip(open_onnx(file).graph.initializer, whole.graph.initializer, strict=True):
        assert light.name == heavy.name
        np.testing.assert_array_equal(weight_values(light), numpy_helper.to_array(heavy))


def test_written_again_it_is_the_same_file(file, tmp_path):
    write_onnx(open_onnx(file), tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == file.read_bytes()


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(to_float16, id="fp16"),
        pytest.param(lambda model: to_float16(model, wide={"block1_conv1"}), id="fp16 in part"),
        pytest.param(
            lambda model: write_qdq(model, CPU, dict.fromkeys(tensors_to_calibrate(model), (-1.0, 1.0))), id="int8"
        ),
    ],
)
def test_what_is_made_of_it_is_the_same_file(whole, file, tmp_path, change):
    for name, model in (("light", open_onnx(file)), ("heavy", whole)):
        write_onnx(change(model), tmp_path / name)
    assert (tmp_path / "light").read_bytes() == (tmp_path / "heavy").read_bytes()


def test_weights_put_into_a_spool_give_the_same_file(extractor, file, tmp_path):
    model = extractor_to_onnx(extractor, tmp_path / "spool")
    assert model.ByteSize() < 1e5
    write_onnx(model, tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx").read_bytes() == file.read_bytes()


def test_two_messages_in_a_row_are_one_model(file, tmp_path):
    more = onnx.ModelProto(graph=onnx.GraphProto(output=[onnx.ValueInfoProto(name="more")]))
    joined = tmp_path / "joined.onnx"
    joined.write_bytes(file.read_bytes() + more.SerializeToString())
    assert [value.name for value in open_onnx(joined).graph.output] == ["features", "more"]


def test_weights_that_have_gone_are_noticed(file, tmp_path):
    copy = tmp_path / "copy.onnx"
    copy.write_bytes(file.read_bytes())
    model = open_onnx(copy)
    copy.write_bytes(copy.read_bytes()[: 1 << 20])
    with pytest.raises(OSError, match=r"the weights that a model refers to have gone: .*copy\.onnx"):
        write_onnx(model, tmp_path / "model.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["copy.onnx"]


@pytest.mark.parametrize("content", [b"", b"\x3a", b"\x3a\xff\xff", b"\x3b\x00", b"\x3a\x05abc", b"\xff" * 40])
def test_what_is_no_model_is_one_clear_line(tmp_path, content):
    file = tmp_path / "model.onnx"
    file.write_bytes(content)
    with pytest.raises(BundleError, match=r"model\.onnx is no ONNX model \(.+\); export the run again"):
        inspect_onnx(file)


def test_a_file_that_is_cut_off_is_one_clear_line(file, tmp_path):
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(file.read_bytes()[: 1 << 20])
    with pytest.raises(BundleError, match=r"cut\.onnx is no ONNX model \(it is cut off\)"):
        inspect_onnx(cut)
