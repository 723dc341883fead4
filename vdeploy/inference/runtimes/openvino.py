"""OpenVINO on the CPU: its own files, and ONNX."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vdeploy.core.errors import BundleError
from vdeploy.core.lazy_imports import require
from vdeploy.inference.runtimes.base import available_cores

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["GRAPH", "OpenVinoRuntime", "reason_of"]

GRAPH = "model.xml"
"""The file in the folder of an OpenVINO model that is opened; its weights lie beside it."""


class OpenVinoRuntime:
    """A model in OpenVINO.

    Floating point stays float32: by itself OpenVINO computes in bfloat16 where the processor can, which is another
    precision than the file's.

    Args:
        path: The folder of a model in OpenVINO's own representation, or an ONNX file.
        threads: Threads for one call; all available cores if left out.

    Raises:
        MissingExtraError: OpenVINO is not installed.
        BundleError: It cannot load the model.
    """

    def __init__(self, path: Path, threads: int | None = None) -> None:
        openvino = require("openvino", extra="openvino", purpose="running models in OpenVINO")
        self._path = path
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": str(threads or available_cores()),
        }
        file = path / GRAPH if path.is_dir() else path
        try:
            model = openvino.Core().compile_model(str(file), "CPU", settings)
            self._request = model.create_infer_request()
        except RuntimeError as error:
            raise BundleError(f"OpenVINO cannot load {path} ({reason_of(error)})", "export the run again") from error
        self._outputs = [output.any_name for output in model.outputs]

    def infer(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[np.float32]]:
        """Runs the model; see `vdeploy.inference.runtimes.base.Runtime`."""
        try:
            answers = self._request.infer(dict(inputs), share_inputs=True)
        except (RuntimeError, TypeError) as error:
            raise BundleError(f"OpenVINO cannot run {self._path} ({reason_of(error)})", "check the inputs") from error
        return {name: np.array(answers[name], np.float32) for name in self._outputs}


def reason_of(error: Exception) -> str:
    """OpenVINO's own words, in a line: its messages begin with the place in its source."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
