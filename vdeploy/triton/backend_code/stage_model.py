"""A Triton model for the Python backend that runs the ONNX file or OpenVINO model beside it.

The repository writer copies this file as `model.py`. It stands alone: it needs numpy, the one runtime and what Triton
gives it, and nothing else of vdeploy. The model has one input and one output, both batched along the first axis. The
runtime follows from the file, `model.onnx` or `model.xml`, not from the configuration, which all versions share.

Parameters in `config.pbtxt`:
    intra_op_num_threads: Threads of one instance; 0 shares the cores that the process may use among the instances.
    max_clips_per_run: Clips in one call of the runtime; 0 for all that Triton has batched.

Tensors cross the border as DLPack only. The Python backend's own numpy bridge was compiled against numpy 1 and gives
wrong values under numpy 2.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import triton_python_backend_utils as pb_utils

__all__ = ["TritonPythonModel"]

Array = npt.NDArray[Any]

_CONSUMED = b"used_dltensor"
"""The name by which numpy's capsule destructor knows another owner; the interpreter keeps only a pointer."""

_rename_capsule = ctypes.pythonapi.PyCapsule_SetName
_rename_capsule.argtypes = [ctypes.py_object, ctypes.c_char_p]
_rename_capsule.restype = ctypes.c_int

_NUMPY_TYPES: dict[str, np.dtype[Any]] = {"tensor(uint8)": np.dtype(np.uint8), "tensor(float)": np.dtype(np.float32)}


class _Runner(Protocol):
    """A loaded model: its input, an axis of which is free where it is no number, and the names of its outputs."""

    input: str
    shape: list[Any]
    dtype: np.dtype[Any]
    outputs: list[str]

    def run(self, output: str, batch: Array) -> Array: ...


class _OnnxRunner:
    def __init__(self, path: Path, threads: int) -> None:
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        import onnxruntime  # noqa: PLC0415  another model needs another runtime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        (found,) = self._session.get_inputs()
        self.input: str = found.name
        self.shape: list[Any] = found.shape
        self.dtype = _NUMPY_TYPES[found.type]
        self.outputs: list[str] = [output.name for output in self._session.get_outputs()]

    def run(self, output: str, batch: Array) -> Array:
        found: Array = self._session.run([output], {self.input: batch})[0]
        return found


class _OpenVinoRunner:
    """Floating point stays float32, where OpenVINO would select bfloat16.

    Threads are not pinned: instances are processes, and all would be pinned to the same first cores.
    """

    def __init__(self, path: Path, threads: int) -> None:
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
        import openvino  # noqa: PLC0415  another model needs another runtime

        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": threads,
            "ENABLE_CPU_PINNING": False,
        }
        model = openvino.Core().compile_model(path, "CPU", settings)
        self._request = model.create_infer_request()
        (found,) = model.inputs
        self.input: str = found.get_any_name()
        self.shape: list[Any] = [axis.get_length() if axis.is_static else None for axis in found.get_partial_shape()]
        self.dtype: np.dtype[Any] = np.dtype(found.get_element_type().to_dtype())
        self.outputs: list[str] = [output.get_any_name() for output in model.outputs]

    def run(self, output: str, batch: Array) -> Array:
        found: Array = self._request.infer({self.input: batch}, share_inputs=True)[output]
        return found


_RUNNERS: dict[str, Callable[[Path, int], _Runner]] = {"model.onnx": _OnnxRunner, "model.xml": _OpenVinoRunner}


class TritonPythonModel:
    """One instance of one stage; Triton makes it and calls it."""

    def initialize(self, args: dict[str, str]) -> None:
        """Loads the model.

        Args:
            args: What Triton passes to an instance: `model_config` as JSON, `model_repository`, `model_version`, ...

        Raises:
            TritonModelException: There is no model, or its input or output is not the configuration's.
        """
        config = json.loads(args["model_config"])
        self._runner, path = _load(Path(args["model_repository"]) / args["model_version"], _threads(config))
        self._clips_per_run = int(_parameter(config, "max_clips_per_run"))
        found, wanted, held = self._runner.input, config["input"][0]["name"], self._runner.outputs
        if found != wanted:
            raise pb_utils.TritonModelException(f"{path} has input {found}, config.pbtxt says {wanted}")
        self._output = config["output"][0]["name"]
        if self._output not in held:
            raise pb_utils.TritonModelException(
                f"{path} has outputs {', '.join(held)}, config.pbtxt says {self._output}"
            )

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answers every request, with an output or an error.

        Args:
            requests: What Triton has batched.

        Returns:
            As many responses, in the same order.
        """
        responses: list[Any] = [None] * len(requests)
        groups: dict[tuple[int, ...], list[tuple[int, Array]]] = {}
        for index, request in enumerate(requests):
            try:
                array = self._read(request)
            except Exception as error:
                responses[index] = _refusal(error)
            else:
                groups.setdefault(array.shape[1:], []).append((index, array))
        for members in groups.values():
            for index, response in self._answer(members):
                responses[index] = response
        return responses

    def _read(self, request: Any) -> Array:
        name, shape, dtype = self._runner.input, self._runner.shape, self._runner.dtype
        array = np.ascontiguousarray(np.from_dlpack(pb_utils.get_input_tensor_by_name(request, name)))
        fits = len(array.shape) == len(shape) and all(
            not isinstance(wanted, int) or wanted == found
            for wanted, found in zip(shape[1:], array.shape[1:], strict=True)
        )
        if array.dtype != dtype or not fits:
            wanted = ", ".join(str(size) if isinstance(size, int) else "any" for size in shape)
            raise ValueError(f"{name} is {array.dtype}{list(array.shape)}, the model takes {dtype}[{wanted}]")
        if dtype == np.float32 and not np.isfinite(array).all():
            raise ValueError(f"{name} holds values that are NaN or infinite")
        return array

    def _answer(self, members: list[tuple[int, Array]]) -> list[tuple[int, Any]]:
        arrays = [array for _, array in members]
        try:
            output = self._run(arrays[0] if len(arrays) == 1 else np.concatenate(arrays))
        except Exception as error:
            if len(members) == 1:
                return [(members[0][0], _refusal(error))]
            # One bad request must not fail those that it was batched with.
            return [answer for member in members for answer in self._answer([member])]
        ends = np.cumsum([len(array) for array in arrays])
        return [
            (index, pb_utils.InferenceResponse([_tensor(self._output, output[end - len(array) : end])]))
            for (index, array), end in zip(members, ends, strict=True)
        ]

    def _run(self, batch: Array) -> Array:
        step = self._clips_per_run or len(batch)
        parts = [self._runner.run(self._output, batch[start : start + step]) for start in range(0, len(batch), step)]
        return np.ascontiguousarray(parts[0] if len(parts) == 1 else np.concatenate(parts))


def _load(folder: Path, threads: int) -> tuple[_Runner, Path]:
    for name, runner in _RUNNERS.items():
        if (folder / name).is_file():
            return runner(folder / name, threads), folder / name
    raise pb_utils.TritonModelException(f"{folder} holds neither {' nor '.join(_RUNNERS)}")


def _tensor(name: str, array: Array) -> Any:
    """Hands an array to Triton, which frees it when the response is sent.

    Triton renames the capsule that it takes over to a name that numpy does not know, so that numpy's destructor would
    print an error for every response; the name of the DLPack convention keeps it quiet.
    """
    capsule = array.__dlpack__()
    tensor = pb_utils.Tensor.from_dlpack(name, capsule)
    _rename_capsule(capsule, _CONSUMED)
    return tensor


def _refusal(error: Exception) -> Any:
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(f"{type(error).__name__}: {error}"))


def _parameter(config: dict[str, Any], name: str) -> str:
    return str(config["parameters"][name]["string_value"])


def _threads(config: dict[str, Any]) -> int:
    asked = int(_parameter(config, "intra_op_num_threads"))
    if asked:
        return asked
    cores = int(os.environ.get("VDEPLOY_THREADS", "0")) or len(os.sched_getaffinity(0))
    instances = sum(group.get("count", 1) for group in config.get("instance_group", [])) or 1
    return max(1, cores // instances)
