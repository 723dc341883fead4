"""Memory of a graph by hand, for graphs whose activations can be counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vdeploy.artifacts.onnx_graphs.memory import GraphMemory, memory_of
from vdeploy.core.errors import BundleError

onnx = pytest.importorskip("onnx")
helper = onnx.helper

ROWS, WIDTH, WIDE = 4, 64, 512


def graph(*nodes: tuple[str, str, str], **weights: np.ndarray) -> onnx.ModelProto:
    """A graph from x [rows, 64] to y; a node is an operator, its inputs and its output."""
    made = [helper.make_node(kind, taken.split(), [given]) for kind, taken, given in nodes]
    taken = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["rows", WIDTH])
    given = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    stored = [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()]
    return helper.make_model(
        helper.make_graph(made, "g", [taken], [given], stored),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )


UP, DOWN = np.zeros((WIDTH, WIDE), np.float32), np.zeros((WIDE, WIDTH), np.float32)
NARROW_BYTES, WIDE_BYTES, WEIGHTS = ROWS * WIDTH * 4, ROWS * WIDE * 4, UP.nbytes


def test_a_layers_input_and_output_are_alive_together() -> None:
    model = graph(("MatMul", "x up", "y"), up=UP)
    assert memory_of(model, {"x": (ROWS, WIDTH)}) == GraphMemory(WEIGHTS, WEIGHTS, NARROW_BYTES + WIDE_BYTES)


def test_an_activation_function_writes_over_its_input() -> None:
    model = graph(("MatMul", "x up", "a"), ("Relu", "a", "b"), ("MatMul", "b down", "y"), up=UP, down=DOWN)
    assert memory_of(model, {"x": (ROWS, WIDTH)}) == GraphMemory(2 * WEIGHTS, 2 * WEIGHTS, WIDE_BYTES + NARROW_BYTES)


@pytest.mark.parametrize(("axes", "is_packed"), [(2, True), (3, False)])
def test_weights_of_3d_convolutions_stay_as_they_are(axes: int, is_packed: bool) -> None:
    kernel = np.zeros((5, 3, *[1] * axes), np.float32)
    model = graph(("Conv", "x kernel", "y"), kernel=kernel)
    for _ in range(axes):
        model.graph.input[0].type.tensor_type.shape.dim.add()
    found = memory_of(model, {"x": (1, 3, *[8] * axes)})
    assert found == GraphMemory(kernel.nbytes, kernel.nbytes if is_packed else 0, 4 * 8 * 8**axes)


def test_what_is_read_later_stays() -> None:
    model = graph(("MatMul", "x up", "a"), ("Relu", "a", "b"), ("Add", "a b", "y"), up=UP)
    found = memory_of(model, {"x": (ROWS, WIDTH)})
    assert found is not None
    assert found.peak_bytes == 2 * WIDE_BYTES


def test_it_grows_with_the_batch(tmp_path: Path) -> None:
    model = graph(("MatMul", "x up", "a"), ("Relu", "a", "b"), ("MatMul", "b down", "y"), up=UP, down=DOWN)
    onnx.save(model, tmp_path / "model.onnx")
    one, many = (memory_of(tmp_path / "model.onnx", {"x": (rows, WIDTH)}) for rows in (1, 7))
    assert one is not None
    assert many == GraphMemory(one.weight_bytes, one.packed_bytes, 7 * one.peak_bytes)


def test_a_shape_that_only_running_tells() -> None:
    model = graph(("NonZero", "x", "a"), ("Cast", "a", "y"))
    model.graph.node[1].attribute.append(helper.make_attribute("to", onnx.TensorProto.FLOAT))
    assert memory_of(model, {"x": (ROWS, WIDTH)}) is None


def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"junk")
    with pytest.raises(BundleError, match=r"model.onnx is no ONNX model"):
        memory_of(tmp_path / "model.onnx", {})
