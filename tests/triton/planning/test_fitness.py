"""The limits of ONNX Runtime's versions, against the one that is installed."""

from __future__ import annotations

import onnxruntime
import pytest
from onnx import TensorProto, helper

from vdeploy.artifacts.file_headers.onnx import OnnxHead
from vdeploy.triton.planning.compatibility import NEWEST_KNOWN, onnx_misfit, onnxruntime_needed
from vdeploy.triton.planning.server_facts import parse_version

INSTALLED = parse_version(onnxruntime.__version__)
HEADS = [OnnxHead(ir_version, opset) for ir_version in range(7, 12) for opset in (13, 17, 19, 20, 21, 22, 23)]


def is_read(head: OnnxHead) -> bool:
    """Whether the installed ONNX Runtime opens a file of these versions."""
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "relu", tensors[:1], tensors[1:])
    opsets = [helper.make_opsetid("", head.opset)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=head.ir_version)
    try:
        onnxruntime.InferenceSession(model.SerializeToString())
    except Exception:  # the runtime's own exceptions share no base class
        return False
    return True


@pytest.mark.parametrize("head", HEADS, ids=str)
def test_what_is_said_to_fit_is_read(head: OnnxHead) -> None:
    said = onnx_misfit(head, INSTALLED) is None
    if INSTALLED[:2] <= NEWEST_KNOWN:
        assert is_read(head) == said
    elif said:
        assert is_read(head)


@pytest.mark.parametrize(
    ("head", "needed"),
    [
        (OnnxHead(8, 17), (1, 12)),
        (OnnxHead(9, 17), (1, 15)),
        (OnnxHead(8, 20), (1, 17)),
        (OnnxHead(10, 22), (1, 21)),
        (OnnxHead(99, 17), None),
    ],
)
def test_the_oldest_version_that_reads_a_file(head: OnnxHead, needed: tuple[int, int] | None) -> None:
    assert onnxruntime_needed(head) == needed
    if needed:
        assert onnx_misfit(head, needed) is None
        assert onnx_misfit(head, (needed[0], needed[1] - 1))
