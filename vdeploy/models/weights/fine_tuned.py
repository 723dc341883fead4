"""Fine-tuned weights of a backbone: an NPZ file of arrays by layer, which holds no code."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vdeploy.core.errors import WeightsError
from vdeploy.core.files import atomic_write

if TYPE_CHECKING:
    import keras

__all__ = ["FINE_TUNED_SUFFIX", "load_fine_tuned", "save_fine_tuned"]

FINE_TUNED_SUFFIX = ".npz"
"""How the name of a file with fine-tuned weights ends; no published file of weights ends like that."""


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
        if arrays:
            raise ValueError(f"it has a further layer {next(iter(arrays)).rpartition('/')[0]}")
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise WeightsError(
            f"{path} holds no fine-tuned weights of this backbone ({reason})",
            "give the backbone.npz of a run with the same [backbone] section",
        ) from error
