"""Files written tensor by tensor: protobuf's own bytes, and the old file where the new one cannot be written."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from testing.limits import largest_file
from vdeploy.export.onnx.file import write_onnx
from vdeploy.export.quantization import CPU
from vdeploy.export.quantization.qdq import tensors_to_calibrate, write_qdq


def same_bytes(model: onnx.ModelProto, path) -> bool:
    write_onnx(model, path)
    return path.read_bytes() == model.SerializeToString(deterministic=True)


def test_the_bytes_are_those_of_protobuf(stage, tmp_path):
    assert same_bytes(stage.model, tmp_path / "model.onnx")


def test_the_bytes_of_a_quantized_model_as_well(extractor_stage, tmp_path):
    model = extractor_stage.model
    ranges = dict.fromkeys(tensors_to_calibrate(model), (-1.0, 1.0))
    assert same_bytes(write_qdq(model, CPU, ranges), tmp_path / "model.onnx")


def test_every_field_finds_its_place(tmp_path):
    weight = numpy_helper.from_array(np.arange(300, dtype=np.float32), "weight")
    weight.doc_string = "behind the weights"
    numbers = onnx.helper.make_tensor("numbers", onnx.TensorProto.INT64, [2], [1, 2])
    value = onnx.helper.make_tensor_value_info("weight", onnx.TensorProto.FLOAT, [300])
    graph = onnx.helper.make_graph([], "graph", [], [value], [weight, numbers], "a graph", [value])
    model = onnx.helper.make_model(graph, producer_name="somebody", doc_string="a model")
    onnx.helper.set_model_props(model, {"key": "value"})
    assert same_bytes(model, tmp_path / "model.onnx")


def test_an_empty_model_is_written(tmp_path):
    assert same_bytes(onnx.ModelProto(graph=onnx.GraphProto()), tmp_path / "folder" / "model.onnx")


def test_a_full_disk_leaves_the_older_file(extractor_stage, tmp_path):
    file = tmp_path / "model.onnx"
    file.write_bytes(b"older")
    with largest_file(1 << 20), pytest.raises(OSError, match="large"):
        write_onnx(extractor_stage.model, file)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"older"]
