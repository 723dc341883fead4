"""The machine's peak floating-point rate, measured.

Dense products and convolutions that fit the caches are run briefly in each installed library; the fastest single call
counts. This is a rate that was reached, not that of the data sheet: a row with better kernels exceeds it. Run as a
script, ``python -m vdeploy.benchmark.measure.peak_flops THREADS SECONDS``, the module prints JSON; `measure_peaks` runs
it in a separate process, so that no library leaves threads behind.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from vdeploy.benchmark.record import Peak
from vdeploy.core.child_python import python_command
from vdeploy.core.errors import BenchmarkError
from vdeploy.core.lazy_imports import require

__all__ = ["find_peaks", "measure_peaks"]

_SIDE = 1024
"""Rows and columns of the matrices."""

_CHANNELS, _MAP, _IMAGES = 512, 14, 4
"""Shape of the convolution: that of VGG19's last block, on a few frames."""

_LEAST_CALLS = 2
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

_Kernel = tuple[str, str, Callable[[], Any], float]
"""Data type, description, call, and operations per call."""


def measure_peaks(threads: int, seconds: float) -> tuple[Peak, ...]:
    """Measures the peak of each data type in a separate process.

    Args:
        threads: Threads per call.
        seconds: Time for each kernel; each runs at least a few times.

    Raises:
        BenchmarkError: The process failed.
    """
    command = python_command(__name__, threads, seconds)
    variables = os.environ | dict.fromkeys(_THREAD_VARIABLES, str(threads))
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=variables)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise BenchmarkError(f"the machine's peak could not be measured ({lines[-1]})", "report this")
    return tuple(Peak.model_validate(value) for value in json.loads(done.stdout))


def find_peaks(threads: int, seconds: float) -> list[Peak]:
    """Measures the peaks in this process; arguments as of `measure_peaks`."""
    best: dict[str, Peak] = {}
    for data_type, how, call, flop in _kernels(threads):
        gflops = flop / _fastest(call, seconds) / 1e9
        if data_type not in best or gflops > best[data_type].gflops:
            best[data_type] = Peak(data_type=data_type, gflops=gflops, how=how)
    return list(best.values())


def _fastest(call: Callable[[], Any], seconds: float) -> float:
    call()
    end, calls, fastest = time.perf_counter() + seconds, 0, float("inf")
    while calls < _LEAST_CALLS or time.perf_counter() < end:
        started = time.perf_counter()
        call()
        fastest = min(fastest, time.perf_counter() - started)
        calls += 1
    return fastest


def _kernels(threads: int) -> Iterator[_Kernel]:
    random = np.random.default_rng(0)
    matrix = random.normal(size=(_SIDE, _SIDE)).astype(np.float32)
    product, product_flop = f"product of {_SIDE} x {_SIDE} matrices", 2.0 * _SIDE**3
    yield "fp32", f"{product}, numpy", lambda: matrix @ matrix, product_flop
    if any(importlib.util.find_spec(module) is None for module in ("onnx", "onnxruntime")):
        return
    steps = np.abs(matrix * 50).astype(np.uint8)
    yield "fp32", f"{product}, ONNX Runtime", _run("MatMul", matrix, {"b": matrix}, threads), product_flop
    integers = {"b": steps.astype(np.int8)}
    yield "int8", f"{product}, ONNX Runtime", _run("MatMulInteger", steps, integers, threads), product_flop
    images = random.normal(size=(_IMAGES, _CHANNELS, _MAP, _MAP)).astype(np.float32)
    kernel = random.integers(-127, 127, (_CHANNELS, _CHANNELS, 3, 3))
    convolution = f"convolution, {_CHANNELS} channels, {_IMAGES} x {_MAP} x {_MAP}, ONNX Runtime"
    convolution_flop = 2.0 * 9 * _CHANNELS**2 * _MAP**2 * _IMAGES
    yield "fp32", convolution, _run("Conv", images, {"w": kernel.astype(np.float32)}, threads), convolution_flop
    steps = np.abs(images * 50).astype(np.uint8)
    yield "int8", convolution, _run("QLinearConv", steps, _quantized(kernel), threads), convolution_flop


def _quantized(kernel: Any) -> dict[str, Any]:
    one, zero = np.float32(0.02), np.uint8(128)
    scales, zeros = np.full(_CHANNELS, 0.01, np.float32), np.zeros(_CHANNELS, np.int8)
    return {"xs": one, "xz": zero, "w": kernel.astype(np.int8), "ws": scales, "wz": zeros, "ys": one, "yz": zero}


def _run(operator: str, value: Any, constants: dict[str, Any], threads: int) -> Callable[[], Any]:
    onnxruntime: Any = require("onnxruntime", extra="onnx", purpose="measuring peak FLOPs")
    from onnx import TensorProto, helper, numpy_helper  # noqa: PLC0415

    types = {"MatMulInteger": TensorProto.INT32, "QLinearConv": TensorProto.UINT8}
    attributes = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]} if operator.endswith("Conv") else {}
    taken = helper.make_tensor_value_info("x", helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
    given = helper.make_tensor_value_info("y", types.get(operator, TensorProto.FLOAT), None)
    node = helper.make_node(operator, ["x", *constants], ["y"], **attributes)
    tensors = [numpy_helper.from_array(np.asarray(constant), name) for name, constant in constants.items()]
    graph = helper.make_graph([node], operator, [taken], [given], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"x": value})


if __name__ == "__main__":
    peaks = find_peaks(int(sys.argv[1]), float(sys.argv[2]))
    sys.stdout.write(json.dumps([peak.model_dump() for peak in peaks]))
