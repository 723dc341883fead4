"""Two more ways to run a SavedModel in TensorFlow, to compare with: as most programs do it, and compiled by XLA."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vdeploy.core.errors import BundleError
from vdeploy.core.lazy_imports import load_keras
from vdeploy.inference.runtimes.tensorflow import TensorFlowRuntime

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["TensorFlowPredict", "TensorFlowXla"]


class TensorFlowPredict(TensorFlowRuntime):
    """A SavedModel behind `keras.Model.predict`, see `TensorFlowRuntime`.

    Each call makes a data set of its inputs; whether XLA compiles the model is left to Keras, as it mostly is.

    Args:
        path: The SavedModel's folder.
        threads: Threads for one operator; TensorFlow's choice if left out.
    """

    def __init__(self, path: Path, threads: int | None = None) -> None:
        super().__init__(path, threads)
        keras, function = load_keras(), self._function

        class Wrapped(keras.Model):  # type: ignore[misc, name-defined]
            def call(self, inputs: Any) -> Any:
                return function(**inputs)

        self._keras: Any = Wrapped(autocast=False)

    def infer(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[np.float32]]:
        """Runs the model; see `vdeploy.inference.runtimes.base.Runtime`."""
        batch = max(len(value) for value in inputs.values())
        answer: dict[str, npt.NDArray[np.float32]] = self._keras.predict(dict(inputs), batch_size=batch, verbose=0)
        return answer


class TensorFlowXla(TensorFlowRuntime):
    """A SavedModel compiled by XLA, anew for each shape of its inputs; see `TensorFlowRuntime`.

    Args:
        path: The SavedModel's folder.
        threads: Threads for one operator; TensorFlow's choice if left out.
    """

    def __init__(self, path: Path, threads: int | None = None) -> None:
        super().__init__(path, threads)
        self._compiled = self._tf.function(self._function, jit_compile=True)

    def infer(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[np.float32]]:
        """Runs the model; see `vdeploy.inference.runtimes.base.Runtime`."""
        try:
            outputs = self._compiled(**{name: self._tf.constant(value) for name, value in inputs.items()})
        except (TypeError, ValueError, self._tf.errors.OpError) as error:
            raise BundleError(f"XLA cannot run {self._path} ({error})", "use TensorFlow without XLA") from error
        return {name: value.numpy() for name, value in outputs.items()}
