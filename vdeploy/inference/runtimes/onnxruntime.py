"""ONNX Runtime on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vdeploy.core.errors import BundleError
from vdeploy.core.lazy_imports import require
from vdeploy.core.runtime_messages import without_source
from vdeploy.inference.runtimes.base import available_cores

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["OnnxRuntime"]


class OnnxRuntime:
    """An ONNX file in ONNX Runtime.

    Args:
        path: The file.
        threads: Threads for one call; all available cores if left out.
        lean: Give memory back after each step of a call; else what the largest call took is kept for the next.

    Raises:
        MissingExtraError: ONNX Runtime is not installed.
        BundleError: It cannot load the file.
    """

    def __init__(self, path: Path, threads: int | None = None, *, lean: bool = False) -> None:
        onnxruntime = require("onnxruntime", extra="onnx", purpose="running ONNX models in process")
        self._path = path
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or available_cores()
        options.log_severity_level = 3
        options.enable_cpu_mem_arena = not lean
        # Threads that wait sleep. Spinning wins a little for a call that has the machine to itself, and takes the cores
        # from the decoders that prepare the next clips.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the runtime's own exceptions share no base class
            raise BundleError(
                f"ONNX Runtime cannot load {path} ({without_source(str(error))})", "export the run again"
            ) from error
        self._outputs = [output.name for output in self._session.get_outputs()]

    def infer(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[np.float32]]:
        """Runs the model; see `vdeploy.inference.runtimes.base.Runtime`."""
        try:
            outputs = self._session.run(self._outputs, dict(inputs))
        except Exception as error:  # the runtime's own exceptions share no base class
            raise BundleError(
                f"ONNX Runtime cannot run {self._path} ({without_source(str(error))})", "export the run again"
            ) from error
        return dict(zip(self._outputs, outputs, strict=True))
