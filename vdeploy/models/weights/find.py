"""Weights for VGG19 by name or by path."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

from vdeploy.core.errors import WeightsError
from vdeploy.core.files import sha256_of
from vdeploy.models.backbones.vgg19.feature_layers import POOLED_BLOCKS, Layer
from vdeploy.models.weights.cache import OnProgress, fetch
from vdeploy.models.weights.published import FILES

__all__ = ["Weights", "find_weights"]

_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
_FC_PARAMETERS = 25088 * 4096 + 4096 + 4096 * 4096 + 4096


@dataclasses.dataclass(frozen=True)
class Weights:
    """Weights for VGG19.

    Attributes:
        source: ``"imagenet"``, ``"random"``, or the path as it was given.
        path: The file, ``None`` for random weights.
        sha256: SHA-256 of the file; of ``random:SEED`` for random weights.
    """

    source: str
    path: Path | None
    sha256: str


def find_weights(
    source: str,
    layer: Layer,
    *,
    offline: bool = False,
    seed: int = 0,
    on_progress: OnProgress | None = None,
) -> Weights:
    """Finds VGG19 weights, and fetches the ImageNet ones if they are not in Keras' cache.

    Args:
        source: ``"imagenet"``, ``"random"``, or the path of an HDF5 file.
        layer: Where the features are taken: ``"fc2"`` needs the whole network, the others the convolutions.
        offline: Look into the cache only.
        seed: Seed of random weights; it only goes into their hash here.
        on_progress: Called with the bytes fetched so far and in all, if that is known, instead of a progress bar.

    Raises:
        WeightsError: They cannot be had, or are not what they claim to be.
    """
    if source == "random":
        return Weights(source, None, hashlib.sha256(f"random:{seed}".encode()).hexdigest())
    if source == "imagenet":
        path = fetch(FILES[layer], offline=offline, on_progress=on_progress)
    else:
        path = Path(source).expanduser()
        _check_file(path, layer)
    return Weights(source, path, sha256_of(path))


def _check_file(path: Path, layer: Layer) -> None:
    if not path.is_file():
        reason = "are not a file" if path.exists() else "do not exist"
        raise WeightsError(f"the weights {path} {reason}", "give 'imagenet' or the path of an HDF5 file")
    try:
        with path.open("rb") as file:
            magic = file.read(len(_HDF5_MAGIC))
    except OSError as error:
        raise WeightsError(f"the weights {path} cannot be read ({error.strerror})") from error
    if magic != _HDF5_MAGIC:
        raise WeightsError(f"the weights {path} are not an HDF5 file", f"give a file like {FILES[layer].name}")
    if layer not in POOLED_BLOCKS and path.stat().st_size < 2 * _FC_PARAMETERS:
        raise WeightsError(
            f"the weights {path} are too small to hold VGG19's fully connected layers, which the fc2 layer needs",
            f"give a file like {FILES['fc2'].name}, or use the avg layer",
        )
