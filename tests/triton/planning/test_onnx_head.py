"""The versions in an ONNX file, against the package onnx."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from vdeploy.artifacts.bundle import Bundle
from vdeploy.artifacts.file_headers.onnx import OnnxHead, read_onnx_head
from vdeploy.core.errors import BundleError


def test_versions_are_those_that_onnx_reads(bundle: Bundle) -> None:
    file = bundle.root / "extractor" / "onnx-fp32" / "model.onnx"
    model = onnx.load(file)
    assert read_onnx_head(file) == OnnxHead(model.ir_version, model.opset_import[0].version)


def test_sets_of_operators_beside_the_default_do_not_count(tmp_path: Path) -> None:
    graph = helper.make_graph([], "empty", [], [])
    opsets = [helper.make_opsetid("com.microsoft", 99), helper.make_opsetid("ai.onnx", 19)]
    (tmp_path / "m").write_bytes(
        helper.make_model(graph, opset_imports=opsets, ir_version=300).SerializeToString(deterministic=True)
    )
    assert read_onnx_head(tmp_path / "m") == OnnxHead(300, 19)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it names no version"),
        (b"not a model at all", "is no ONNX model"),
        (b"\x08", "it is cut off"),
        (b"\x3a\xff\x01short", "it is cut off"),
        (b"\x08" + b"\xff" * 12, "a number of too many digits"),
        (b"\x0b\x00", "a field of kind 3"),
    ],
)
def test_what_is_no_model_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(BundleError, match=reason):
        read_onnx_head(tmp_path / "model.onnx")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="cannot be read"):
        read_onnx_head(tmp_path / "model.onnx")


def test_weights_are_skipped(tmp_path: Path) -> None:
    weights = helper.make_tensor("w", TensorProto.FLOAT, [64], [0.5] * 64)
    graph = helper.make_graph([], "weights", [], [], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    (tmp_path / "m").write_bytes(model.SerializeToString())
    assert read_onnx_head(tmp_path / "m") == OnnxHead(9, 17)
