"""EfficientNetV2-B0 (Tan and Le 2021, "Smaller Models and Faster Training"), pre-trained on ImageNet."""

from __future__ import annotations

from typing import ClassVar, Literal

from vdeploy.models.backbones.keras_application import KerasApplication
from vdeploy.models.base import BackboneSettings
from vdeploy.models.weights.published import WeightsFile

__all__ = ["EfficientNetV2B0", "EfficientNetV2B0Settings"]

_NAME = "efficientnetv2-b0_notop.h5"
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of the ImageNet training images per channel, RGB from 0 to 1."""


class EfficientNetV2B0Settings(BackboneSettings):
    """Settings of EfficientNetV2-B0.

    Attributes:
        weights: ``"imagenet"``, ``"random"``, or the path of an HDF5 file.
    """

    name: Literal["efficientnet-v2-b0"] = "efficientnet-v2-b0"
    weights: str = "imagenet"


class EfficientNetV2B0(KerasApplication):
    """EfficientNetV2-B0: 1280 features a frame, with swish and squeeze-and-excitation."""

    name: ClassVar[str] = "efficientnet-v2-b0"
    title: ClassVar[str] = "EfficientNetV2-B0"
    function: ClassVar[str] = "EfficientNetV2B0"
    settings_type: ClassVar[type[BackboneSettings]] = EfficientNetV2B0Settings
    features: ClassVar[int] = 1280
    scaling: ClassVar = (
        [1 / (255 * deviation) for deviation in _DEVIATION],
        [-mean / deviation for mean, deviation in zip(_MEAN, _DEVIATION, strict=True)],
    )
    weights_file: ClassVar[WeightsFile] = WeightsFile(
        name=_NAME,
        url=f"https://storage.googleapis.com/tensorflow/keras-applications/efficientnet_v2/{_NAME}",
        md5="893217f2bb855e2983157299931e43ff",
    )
