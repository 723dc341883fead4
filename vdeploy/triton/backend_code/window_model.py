"""A Triton model for the Python backend that keeps the last features of each stream, for its next window.

The repository writer copies this file as `model.py`. It stands alone: it needs numpy and what Triton gives it, and
nothing else of vdeploy. A request brings the features of a stream's next frames and is answered with the window that
ends with the last of them. Triton's correlation id identifies a stream; the flag START begins it, END forgets it, and a
request with both leaves nothing behind.

The model is not under Triton's sequence batcher: that one makes a stream too many wait for another's end, without a
message, where this one refuses it, and does not notify a Python model of an idle stream, where this one forgets it.

Inputs: `features` float32[1, t, F]; `missing` int32[1, t], frames left out before each frame, for which the features
before them stand. Outputs: `window` float32[1, T, F]; `held` int32[1, 1], how many of the T frames it is made of.

Parameters in `config.pbtxt`:
    max_streams: Streams that are kept at most.
    idle_seconds: How long a stream is kept after its last request.

Tensors cross the border as DLPack only. The Python backend's own numpy bridge was compiled against numpy 1 and gives
wrong values under numpy 2.
"""

from __future__ import annotations

import collections
import ctypes
import dataclasses
import itertools
import json
import time
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
    """The last features of a stream, and when it was heard of."""

    features: Kept
    heard: float


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
            features, missing = self._read(request)
            kept = self._keep(request.correlation_id(), int(request.flags()), features, missing)
        except Refusal as refusal:
            code = getattr(pb_utils.TritonError, refusal.code)
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(refusal), code))
        window = np.stack([kept[index] for index in _spread(len(kept), self._length)])
        held = np.array([[len(kept)]], np.int32)
        return pb_utils.InferenceResponse([_tensor("window", window[np.newaxis]), _tensor("held", held)])

    def _read(self, request: Any) -> tuple[Array, Array]:
        features, missing = (
            np.from_dlpack(pb_utils.get_input_tensor_by_name(request, name)) for name in ("features", "missing")
        )
        if features.ndim != 3 or len(features) != 1 or features.shape[2] != self._dim or not features.size:
            raise Refusal("INVALID_ARG", f"features are {list(features.shape)}, a stream sends [1, t, {self._dim}]")
        if not np.isfinite(features).all():
            raise Refusal("INVALID_ARG", "features hold values that are NaN or infinite")
        if missing.shape != features.shape[:2] or missing.min() < 0:
            raise Refusal("INVALID_ARG", "missing is not a count from 0 up for each frame")
        return features[0], missing[0]

    def _keep(self, stream: int | str, flags: int, features: Array, missing: Array) -> Kept:
        now = time.monotonic()
        self._forget_idle(now)
        if stream in {0, ""}:
            raise Refusal("INVALID_ARG", "a stream needs a correlation id other than 0")
        kept = self._begin(stream, flags) if flags & _START else self._known(stream)
        for vector, count in zip(features, missing.tolist(), strict=True):
            if kept:
                kept.extend(itertools.repeat(kept[-1], min(count, self._length)))
            kept.append(np.array(vector))
        self._streams.pop(stream, None)
        if not flags & _END:
            self._streams[stream] = _Stream(kept, now)
        return kept

    def _begin(self, stream: int | str, flags: int) -> Kept:
        if len(self._streams) >= self._limit and stream not in self._streams and not flags & _END:
            raise Refusal("UNAVAILABLE", f"all {self._limit} streams that are kept at most are live")
        return collections.deque(maxlen=self._length)

    def _known(self, stream: int | str) -> Kept:
        if stream not in self._streams:
            raise Refusal("NOT_FOUND", f"stream {stream} is not known here: begin it anew, with its last frames")
        return self._streams[stream].features

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
