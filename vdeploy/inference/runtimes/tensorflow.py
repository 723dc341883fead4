"""SavedModels in TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vdeploy.core.errors import BundleError
from vdeploy.core.lazy_imports import load_tensorflow

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["TensorFlowRuntime"]


class TensorFlowRuntime:
    """A SavedModel in TensorFlow.

    Args:
        path: The SavedModel's folder.
        threads: Threads for one operator; TensorFlow's choice if left out. TensorFlow has one pool of threads a
            process, whose size is settled by the first thing that it computes.
        signature: Which of the SavedModel's functions to run.

    Raises:
        MissingExtraError: TensorFlow is not installed.
        BundleError: It cannot load the folder, or its threads are settled otherwise in this process.
    """

    def __init__(self, path: Path, threads: int | None = None, signature: str = "serving_default") -> None:
        self._tf: Any = load_tensorflow()
        self._path = path
        if threads is not None:
            self._set_threads(threads)
        try:
            # The functions live as long as the object that owns their variables.
            self._model = self._tf.saved_model.load(str(path))
        except Exception as error:  # the loader lets through whatever a damaged file provokes
            raise BundleError(f"TensorFlow cannot load {path} ({error})", "export the run again") from error
        if signature not in self._model.signatures:
            held = ", ".join(sorted(self._model.signatures)) or "none"
            raise BundleError(f"{path} has no signature {signature}, only {held}", "export the run again")
        self._function = self._model.signatures[signature]

    def infer(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[np.float32]]:
        """Runs the model; see `vdeploy.inference.runtimes.base.Runtime`."""
        try:
            tensors = {name: self._tf.constant(value) for name, value in inputs.items()}
            self._check(tensors)
            outputs = self._function(**tensors)
        except (TypeError, ValueError, self._tf.errors.OpError) as error:
            raise BundleError(f"TensorFlow cannot run {self._path} ({error})", "export the run again") from error
        return {name: value.numpy() for name, value in outputs.items()}

    def _check(self, tensors: Mapping[str, Any]) -> None:
        """Compares inputs with the signature: a loaded function takes any shape, and computes something."""
        _, specs = self._function.structured_input_signature
        if set(tensors) != set(specs):
            raise ValueError(f"it takes {', '.join(specs)}, not {', '.join(tensors) or 'nothing'}")
        for name, spec in specs.items():
            tensor = tensors[name]
            if not spec.is_compatible_with(tensor):
                wanted, given = (f"{value.dtype.name} {value.shape}" for value in (spec, tensor))
                raise ValueError(f"{name} must be {wanted}, not {given}")

    def _set_threads(self, threads: int) -> None:
        try:
            self._tf.config.threading.set_intra_op_parallelism_threads(threads)
        except RuntimeError as error:
            settled = self._tf.config.threading.get_intra_op_parallelism_threads() or "its own number of"
            raise BundleError(
                f"TensorFlow computes with {settled} threads in this process already, not with {threads}",
                "choose the threads before anything else runs, or leave them out",
            ) from error
