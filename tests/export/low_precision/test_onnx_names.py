"""Names that a converter's counters do not reach."""

from __future__ import annotations

import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from vdeploy.export.onnx.canonical_names import rename_canonically
from vdeploy.export.onnx.convert import classifier_to_onnx


def test_the_classifier_gives_the_same_bytes_every_time(tiny_run, classifier_stage):
    again = classifier_to_onnx(tiny_run.classifier())
    assert again.SerializeToString(deterministic=True) == classifier_stage.model.SerializeToString(deterministic=True)


def test_nodes_are_named_for_what_they_do(classifier_stage):
    names = [node.name for node in classifier_stage.model.graph.node]
    assert len(set(names)) == len(names)
    assert {"lstm", "matmul", "matmul_2", "softmax"} <= set(names)


def model(prefix: str, *, backwards: bool = False) -> onnx.ModelProto:
    nodes = [
        helper.make_node("MatMul", ["x", f"{prefix}w"], [f"{prefix}product"], name=f"{prefix}1"),
        helper.make_node("Add", [f"{prefix}product", f"{prefix}b"], [f"{prefix}sum"], name=f"{prefix}2"),
        helper.make_node("Add", [f"{prefix}sum", f"{prefix}b"], ["y"], name=f"{prefix}3"),
        helper.make_node("Neg", ["x"], [f"{prefix}unused"], name=f"{prefix}4"),
    ]
    weights = [
        helper.make_tensor(f"{prefix}{name}", TensorProto.FLOAT, shape, [0.5] * 4)
        for name, shape in (("w", [2, 2]), ("b", [4]), ("spare", [4]))
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "xy"]
    order = slice(None, None, -1 if backwards else 1)
    return helper.make_model(helper.make_graph(nodes[order], "graph", values[:1], values[1:], weights[order]))


@pytest.mark.parametrize(("prefix", "backwards"), [("a", False), ("zz__7", False), ("a", True)])
def test_the_order_and_the_names_of_the_converter_leave_no_trace(prefix, backwards):
    converted = model(prefix, backwards=backwards)
    rename_canonically(converted)
    graph = converted.graph
    assert [(node.name, list(node.input), list(node.output)) for node in graph.node] == [
        ("matmul", ["x", "matmul/1"], ["matmul"]),
        ("add", ["matmul", "add/1"], ["add"]),
        ("add_2", ["add", "add/1"], ["y"]),
    ]
    assert [tensor.name for tensor in graph.initializer] == ["matmul/1", "add/1"]
    assert numpy_helper.to_array(graph.initializer[0]).shape == (2, 2)
