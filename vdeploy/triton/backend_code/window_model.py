"""A Triton model for the Python backend that keeps the last features of each stream, for its next window.

The repository writer copies this file as `model.py`. It stands alone: it needs numpy and what Triton gives it, and
nothing else of vdeploy. A request brings the features of a stream's next frames and is answered with the window that
ends with the last of them. Triton's correlation id identifies a stream; the flag START begins it, END forgets it, and a
request with both leaves nothing behind.

Where features depend on the frames before, the requests bring the frames themselves. The streaming form of the
extractor, `model.onnx` beside this file, computes their features from the stream's buffer, which is kept as well; this
takes ONNX Runtime.

The model is not under Triton's sequence batcher: that one makes a stream too many wait for another's end, without a
message, where this one refuses it, and does not notify a Python model of an idle stream, where this one forgets it.

Inputs: `features` float32[1, t, F], or `frames` uint8[1, t, S, S, 3]; `missing` int32[1, t], frames left out before
each frame, for which the features before them stand. Outputs: `window` float32[1, T, F]; `held` int32[1, 1], how many
of the T frames it is made of.

Parameters in `config.pbtxt`:
    max_streams: Streams that are kept at most.
    idle_seconds: How long a stream is kept after its last request.
    intra_op_num_threads: Threads of the streaming form; 0 for all cores that the process may use.

Tensors cross the border as DLPack only. The Python backend's own numpy bridge was compiled against numpy 1 and gives
wrong values under numpy 2.
"""

from __future__ import annotations

import collections
import ctypes
import dataclasses
import itertools
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import triton_python_backend_utils as pb_utils

__all__ = ["TritonPythonModel"]

Array = npt.NDArray[Any]
Kept = collections.deque[npt.NDArray[np.float32]]

_START, _END = 1, 2
"""Triton's flags of a request."""

_CONSUMED = b"used_dltensor"
"""The name by which numpy's capsule destructor knows another owner; the interpreter keeps only a pointer."""

_rename_capsule = ctypes.pythonapi.PyCapsule_SetName
_rename_capsule.argtypes = [ctypes.py_object, ctypes.c_char_p]
_rename_capsule.restype = ctypes.c_int


class Refusal(Exception):  # noqa: N818  an answer, not a failure
    """A request that cannot be answered.

    Args:
        code: Name of one of Triton's error codes.
        message: Why, in a line.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclasses.dataclass
class _Stream:
    """The last features of a stream, when it was heard of, and the buffer of a streaming form."""

    features: Kept
    heard: float
    buffer: Array | None = None


class _Stepper:
    """The streaming form of an extractor: frames and a buffer in, features and the next buffer out."""

    def __init__(self, path: Path, threads: int) -> None:
        if not path.is_file():
            raise pb_utils.TritonModelException(f"{path} is missing, with which frames become features")
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        import onnxruntime  # noqa: PLC0415  only streams of frames need it

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or int(os.environ.get("VDEPLOY_THREADS", "0"))
        options.intra_op_num_threads = options.intra_op_num_threads or len(os.sched_getaffinity(0))
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        taken = {value.name: value.shape for value in self._session.get_inputs()}
        self.size, self._length = taken["frames"][2], taken["buffer"][1]

    def step(self, frames: Array, buffer: Array | None) -> tuple[Array, Array]:
        """Computes the features `float32[t, F]` of `frames` uint8[1, t, S, S, 3], and the next buffer."""
        before = np.zeros((1, self._length), np.float32) if buffer is None else buffer
        features, after = self._session.run(["features", "next_buffer"], {"frames": frames, "buffer": before})
        return features[0], after


class TritonPythonModel:
    """The windows of all streams; Triton makes it once and calls it."""

    def initialize(self, args: dict[str, str]) -> None:
        """Reads the configuration.

        Args:
            args: What Triton passes to an instance: `model_config` as JSON, ...
        """
        config = json.loads(args["model_config"])
        self._length, self._dim = (int(size) for size in config["output"][0]["dims"])
        self._limit = int(_parameter(config, "max_streams"))
        self._idle_s = float(_parameter(config, "idle_seconds"))
        self._stepper: _Stepper | None = None
        if any(tensor["name"] == "frames" for tensor in config["input"]):
            folder = Path(args["model_repository"]) / args["model_version"]
            self._stepper = _Stepper(folder / "model.onnx", int(_parameter(config, "intra_op_num_threads")))
        self._streams: collections.OrderedDict[int | str, _Stream] = collections.OrderedDict()

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answers every request, with a window or an error.

        Args:
            requests: What Triton has batched.

        Returns:
            As many responses, in the same order.
        """
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        try:
            values, missing = self._read(request)
            kept = self._keep(request.correlation_id(), int(request.flags()), values, missing)
        except Refusal as refusal:
            code = getattr(pb_utils.TritonError, refusal.code)
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(refusal), code))
        window = np.stack([kept[index] for index in _spread(len(kept), self._length)])
        held = np.array([[len(kept)]], np.int32)
        return pb_utils.InferenceResponse([_tensor("window", window[np.newaxis]), _tensor("held", held)])

    def _read(self, request: Any) -> tuple[Array, Array]:
        name = "frames" if self._stepper else "features"
        values, missing = (
            np.from_dlpack(pb_utils.get_input_tensor_by_name(request, tensor)) for tensor in (name, "missing")
        )
        self._check(values)
        if missing.shape != values.shape[:2] or missing.min() < 0:
            raise Refusal("INVALID_ARG", "missing is not a count from 0 up for each frame")
        return values if self._stepper else values[0], missing[0]

    def _check(self, values: Array) -> None:
        if self._stepper:
            size = self._stepper.size
            if values.ndim != 5 or len(values) != 1 or values.shape[2:] != (size, size, 3) or not values.size:
                raise Refusal(
                    "INVALID_ARG", f"frames are {list(values.shape)}, a stream sends [1, t, {size}, {size}, 3]"
                )
            return
        if values.ndim != 3 or len(values) != 1 or values.shape[2] != self._dim or not values.size:
            raise Refusal("INVALID_ARG", f"features are {list(values.shape)}, a stream sends [1, t, {self._dim}]")
        if not np.isfinite(values).all():
            raise Refusal("INVALID_ARG", "features hold values that are NaN or infinite")

    def _keep(self, name: int | str, flags: int, values: Array, missing: Array) -> Kept:
        now = time.monotonic()
        self._forget_idle(now)
        if name in {0, ""}:
            raise Refusal("INVALID_ARG", "a stream needs a correlation id other than 0")
        stream = self._begin(name, flags) if flags & _START else self._known(name)
        kept, features = stream.features, values
        if self._stepper:
            features, stream.buffer = self._stepper.step(values, stream.buffer)
        for vector, count in zip(features, missing.tolist(), strict=True):
            if kept:
                kept.extend(itertools.repeat(kept[-1], min(count, self._length)))
            kept.append(np.array(vector))
        self._streams.pop(name, None)
        if not flags & _END:
            self._streams[name] = dataclasses.replace(stream, heard=now)
        return kept

    def _begin(self, name: int | str, flags: int) -> _Stream:
        if len(self._streams) >= self._limit and name not in self._streams and not flags & _END:
            raise Refusal("UNAVAILABLE", f"all {self._limit} streams that are kept at most are live")
        return _Stream(collections.deque(maxlen=self._length), 0.0)

    def _known(self, name: int | str) -> _Stream:
        if name not in self._streams:
            raise Refusal("NOT_FOUND", f"stream {name} is not known here: begin it anew, with its last frames")
        return self._streams[name]

    def _forget_idle(self, now: float) -> None:
        """Forgets who was not heard of for long; the stream that was heard of last stands last."""
        while self._streams:
            stream, oldest = next(iter(self._streams.items()))
            if now - oldest.heard < self._idle_s:
                return
            del self._streams[stream]


def _spread(available: int, wanted: int) -> list[int]:
    """Which frames stand for a window; one that is not full yet is spread over it, as a short clip is.

    The formula of `vdeploy.video.clips.frame_indices`.
    """
    return [(2 * index + 1) * available // (2 * wanted) for index in range(wanted)]


def _tensor(name: str, array: Array) -> Any:
    """Hands an array to Triton, which frees it when the response is sent.

    Triton renames the capsule that it takes over to a name that numpy does not know, so that numpy's destructor would
    print an error for every response; the name of the DLPack convention keeps it quiet.
    """
    capsule = array.__dlpack__()
    tensor = pb_utils.Tensor.from_dlpack(name, capsule)
    _rename_capsule(capsule, _CONSUMED)
    return tensor


def _parameter(config: dict[str, Any], name: str) -> str:
    return str(config["parameters"][name]["string_value"])
