"""A Triton model for the Python backend that runs the `model.onnx` beside it with ONNX Runtime.

The repository writer copies this file as `model.py`. It stands alone: it needs numpy, ONNX Runtime and what Triton
gives it, and nothing else of vdeploy. The model has one input and one output, both batched along the first axis.

Parameters in `config.pbtxt`:
    intra_op_num_threads: Threads of one instance; 0 shares the cores that the process may use among the instances.
    max_clips_per_run: Clips in one call of ONNX Runtime; 0 for all that Triton has batched.

Tensors cross the border as DLPack only. The Python backend's own numpy bridge was compiled against numpy 1 and gives
wrong values under numpy 2.
"""

from __future__ import annotations

import ctypes
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import triton_python_backend_utils as pb_utils

__all__ = ["TritonPythonModel"]

Array = npt.NDArray[Any]

_CONSUMED = b"used_dltensor"
"""The name that numpy's capsule destructor takes for "owned by somebody else"; the interpreter keeps only a pointer."""

_rename_capsule = ctypes.pythonapi.PyCapsule_SetName
_rename_capsule.argtypes = [ctypes.py_object, ctypes.c_char_p]
_rename_capsule.restype = ctypes.c_int

_NUMPY_TYPES = {"tensor(uint8)": np.dtype(np.uint8), "tensor(float)": np.dtype(np.float32)}


class TritonPythonModel:
    """One instance of one stage; Triton makes it and calls it."""

    def initialize(self, args: dict[str, str]) -> None:
        """Loads the model.

        Args:
            args: What Triton tells an instance: `model_config` as JSON, `model_repository`, `model_version`, ...

        Raises:
            TritonModelException: The ONNX model's input or output is not the configuration's.
        """
        config = json.loads(args["model_config"])
        path = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = _threads(config)
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._clips_per_run = int(_parameter(config, "max_clips_per_run"))
        found, wanted = self._session.get_inputs()[0], config["input"][0]["name"]
        if found.name != wanted:
            raise pb_utils.TritonModelException(f"{path} has input {found.name}, config.pbtxt says {wanted}")
        self._input, self._shape, self._dtype = found.name, found.shape, _NUMPY_TYPES[found.type]
        self._output = config["output"][0]["name"]
        held = [output.name for output in self._session.get_outputs()]
        if self._output not in held:
            raise pb_utils.TritonModelException(
                f"{path} has outputs {', '.join(held)}, config.pbtxt says {self._output}"
            )

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answers every request, with an output or with an error of its own.

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
        array = np.ascontiguousarray(np.from_dlpack(pb_utils.get_input_tensor_by_name(request, self._input)))
        fits = len(array.shape) == len(self._shape) and all(
            not isinstance(wanted, int) or wanted == found
            for wanted, found in zip(self._shape[1:], array.shape[1:], strict=True)
        )
        if array.dtype != self._dtype or not fits:
            wanted = ", ".join(str(size) if isinstance(size, int) else "any" for size in self._shape)
            raise ValueError(
                f"{self._input} is {array.dtype}{list(array.shape)}, the model takes {self._dtype}[{wanted}]"
            )
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
        parts = [
            self._session.run([self._output], {self._input: batch[start : start + step]})[0]
            for start in range(0, len(batch), step)
        ]
        return np.ascontiguousarray(parts[0] if len(parts) == 1 else np.concatenate(parts))


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
