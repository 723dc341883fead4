"""ONNX Runtime in this process."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from vdeploy.inference.runtimes.onnxruntime import OnnxRuntime

SIDE, CALLS, PAUSE_S = 256, 50, 0.01


def test_threads_that_wait_leave_the_cores_to_others(tmp_path: Path) -> None:
    """Decoders need them; a thread that spins between two calls would take a core for most of the pause."""
    weights = np.random.default_rng(0).random((SIDE, SIDE), np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["a", "b"], ["c"])],
        "product",
        [helper.make_tensor_value_info("a", TensorProto.FLOAT, [SIDE, SIDE])],
        [helper.make_tensor_value_info("c", TensorProto.FLOAT, [SIDE, SIDE])],
        [numpy_helper.from_array(weights, "b")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")
    runtime = OnnxRuntime(tmp_path / "m.onnx", threads=2)
    paused_s = 0.0
    for _ in range(CALLS):
        (product,) = runtime.infer({"a": weights}).values()
        before = time.process_time()
        time.sleep(PAUSE_S)
        paused_s += time.process_time() - before
    np.testing.assert_allclose(product, weights @ weights, rtol=1e-4)
    assert paused_s < CALLS * PAUSE_S / 10
