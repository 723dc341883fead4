"""TFLite files in LiteRT, with XNNPACK."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vdeploy.core.errors import BundleError
from vdeploy.core.lazy_imports import require
from vdeploy.inference.runtimes.base import available_cores

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["LiteRtRuntime"]

_SIGNATURE = "serving_default"


class LiteRtRuntime:
    """A TFLite file in LiteRT.

    A file takes one clip, or one frame of one: the runtime goes through a batch piece by piece and puts the answers
    together. Quantized inputs and outputs are translated by the scale and zero point that the file states, so values
    mean the same whatever the file's own types are.

    Args:
        path: The file.
        threads: Threads for one call; all available cores if left out.

    Raises:
        MissingExtraError: LiteRT is not installed.
        BundleError: It cannot load the file.
    """

    def __init__(self, path: Path, threads: int | None = None) -> None:
        litert = require("ai_edge_litert.interpreter", extra="tflite", purpose="running TFLite models")
        self._path = path
        try:
            interpreter = litert.Interpreter(model_path=str(path), num_threads=threads or available_cores())
            self._runner = interpreter.get_signature_runner(_SIGNATURE)
            self._inputs = self._runner.get_input_details()
            self._outputs = self._runner.get_output_details()
        except (ValueError, RuntimeError) as error:
            raise BundleError(f"LiteRT cannot load {path} ({error})", "export the run again") from error

    def infer(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[np.float32]]:
        """Runs the model; see `vdeploy.inference.runtimes.base.Runtime`."""
        if set(inputs) != set(self._inputs) or len(inputs) != 1:
            taken = ", ".join(self._inputs)
            raise BundleError(f"{self._path} takes {taken}, not {', '.join(inputs)}", "export the run again")
        ((name, value),) = inputs.items()
        answers: dict[str, list[npt.NDArray[np.float32]]] = {output: [] for output in self._outputs}
        for piece in self._pieces(name, value):
            for output, answer in self._runner(**{name: _quantize(piece, self._inputs[name])}).items():
                answers[output].append(_dequantize(answer, self._outputs[output]))
        return {output: _joined(pieces, len(value)) for output, pieces in answers.items()}

    def _pieces(self, name: str, value: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
        """Cuts a batch of clips into arrays of the shape that the file takes, ``[1, t, ...]``."""
        shape = tuple(int(size) for size in self._inputs[name]["shape"])
        fits = value.ndim == len(shape) and value.shape[2:] == shape[2:] and value.shape[1] % shape[1] == 0
        if not fits or not value.size:
            raise BundleError(
                f"{self._path} takes {name} of shape {list(shape)} or several of them, not {list(value.shape)}",
                "give it clips as the manifest says",
            )
        yield from value.reshape(-1, *shape)


def _quantize(value: npt.NDArray[Any], detail: Mapping[str, Any]) -> npt.NDArray[Any]:
    dtype = np.dtype(detail["dtype"])
    scale, zero_point = detail["quantization"]
    if not scale or (value.dtype == dtype and (scale, zero_point) == (1, 0)):
        return value.astype(dtype, copy=False)
    limits = np.iinfo(dtype)
    steps = np.rint(value.astype(np.float32) / np.float32(scale)) + zero_point
    quantized: npt.NDArray[Any] = steps.clip(limits.min, limits.max).astype(dtype)
    return quantized


def _dequantize(value: npt.NDArray[Any], detail: Mapping[str, Any]) -> npt.NDArray[np.float32]:
    scale, zero_point = detail["quantization"]
    real = value.astype(np.float32)
    return (real - np.float32(zero_point)) * np.float32(scale) if scale else real


def _joined(pieces: list[npt.NDArray[np.float32]], clips: int) -> npt.NDArray[np.float32]:
    """Puts answers together: those to frames, ``[1, t, F]``, along time first; one a clip otherwise."""
    stacked = np.concatenate(pieces)
    if len(stacked) == clips:
        return stacked
    return stacked.reshape(clips, -1, *stacked.shape[2:])
