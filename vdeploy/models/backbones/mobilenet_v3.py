"""MobileNetV3-Large (Howard et al. 2019, "Searching for MobileNetV3"), pre-trained on ImageNet."""

from __future__ import annotations

from typing import ClassVar, Literal

from vdeploy.models.backbones.keras_application import KerasApplication
from vdeploy.models.base import BackboneSettings
from vdeploy.models.weights.published import WeightsFile

__all__ = ["MobileNetV3", "MobileNetV3Settings"]

_NAME = "weights_mobilenet_v3_large_224_1.0_float_no_top_v2.h5"


class MobileNetV3Settings(BackboneSettings):
    """Settings of MobileNetV3-Large.

    Attributes:
        weights: ``"imagenet"``, ``"random"``, or the path of an HDF5 file.
    """

    name: Literal["mobilenet-v3"] = "mobilenet-v3"
    weights: str = "imagenet"


class MobileNetV3(KerasApplication):
    """MobileNetV3-Large: 960 features a frame, with hard swish and squeeze-and-excitation."""

    name: ClassVar[str] = "mobilenet-v3"
    title: ClassVar[str] = "MobileNetV3-Large"
    function: ClassVar[str] = "MobileNetV3Large"
    settings_type: ClassVar[type[BackboneSettings]] = MobileNetV3Settings
    features: ClassVar[int] = 960
    scaling: ClassVar = (1 / 127.5, -1.0)
    weights_file: ClassVar[WeightsFile] = WeightsFile(
        name=_NAME,
        url=f"https://storage.googleapis.com/tensorflow/keras-applications/mobilenet_v3/{_NAME}",
        md5="07fb09a5933dd0c8eaafa16978110389",
    )
