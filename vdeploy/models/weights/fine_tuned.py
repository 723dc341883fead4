"""Fine-tuned weights of a backbone: an NPZ file of arrays by layer, which holds no code.

A temporal shift has no weights, but weights that were trained with one are of use with the same one alone: an empty
array of its name marks each.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vdeploy.core.errors import WeightsError
from vdeploy.core.files import atomic_write

if TYPE_CHECKING:
    import keras

__all__ = ["FINE_TUNED_SUFFIX", "SHIFT_SUFFIX", "load_fine_tuned", "save_fine_tuned"]

FINE_TUNED_SUFFIX = ".npz"
"""How the name of a file with fine-tuned weights ends; no published file of weights ends like that."""

SHIFT_SUFFIX = "_shift"
"""How the names of layers end that shift channels in time."""


def save_fine_tuned(network: keras.Model, path: Path) -> None:
    """Write all weights of a network.

    Args:
        network: The network.
        path: A file that ends in `FINE_TUNED_SUFFIX`.

    Raises:
        OSError: The file cannot be written.
    """
    arrays = {
        f"{layer.name}/{number}": value for layer in network.layers for number, value in enumerate(layer.get_weights())
    }
    arrays |= {f"{name}/shift": np.zeros(0) for name in _shift_names(network)}
    with atomic_write(path) as file:
        np.savez(file, **arrays)


def load_fine_tuned(network: keras.Model, path: Path) -> None:
    """Put weights that `save_fine_tuned` wrote into a network of the same architecture.

    Args:
        network: The network.
        path: The file.

    Raises:
        WeightsError: The file cannot be read, or holds the weights of another network.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        for layer in network.layers:
            layer.set_weights([arrays.pop(f"{layer.name}/{number}") for number in range(len(layer.weights))])
        for name in _shift_names(network):
            arrays.pop(f"{name}/shift")
        if arrays:
            raise ValueError(f"it has a further layer {next(iter(arrays)).rpartition('/')[0]}")
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise WeightsError(
            f"{path} holds no fine-tuned weights of this backbone ({reason})",
            "give the backbone.npz of a run with the same [backbone] section",
        ) from error


def _shift_names(network: keras.Model) -> set[str]:
    """Names of the layers that shift channels, in a network and in the networks in it."""
    names: set[str] = set()
    for layer in network.layers:
        if layer.name.endswith(SHIFT_SUFFIX):
            names.add(layer.name)
        elif hasattr(layer, "layers"):
            names |= _shift_names(layer)
    return names
