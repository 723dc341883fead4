"""A backbone and a head that nobody needs: each is one class, and one line in the registry makes it whole."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Literal
from unittest import mock

from vdeploy.core.lazy_imports import load_keras
from vdeploy.models.base import Backbone, BackboneSettings, Head, HeadSettings
from vdeploy.models.registry import BACKBONES, HEADS
from vdeploy.models.weights.find import Weights

if TYPE_CHECKING:
    import keras

    from vdeploy.video.clips import ClipSpec

__all__ = ["ToyBackbone", "ToyBlocks", "ToyHead", "toys_registered"]


@contextlib.contextmanager
def toys_registered() -> Iterator[None]:
    """Keeps the toys in the registry while a `with` block lasts."""
    backbones = {"toy-colours": f"{__name__}:ToyBackbone", "toy-blocks": f"{__name__}:ToyBlocks"}
    with mock.patch.dict(BACKBONES, backbones), mock.patch.dict(HEADS, {"toy-average": f"{__name__}:ToyHead"}):
        yield


class ToyBackboneSettings(BackboneSettings):
    name: Literal["toy-colours"] = "toy-colours"
    weights: str = "random"
    features: int = 8


class ToyBackbone(Backbone[ToyBackboneSettings]):
    """One convolution and an average."""

    name: ClassVar[str] = "toy-colours"
    title: ClassVar[str] = "toy colours"
    settings_type: ClassVar[type[BackboneSettings]] = ToyBackboneSettings

    def feature_shape(self, frames: int) -> tuple[int, int]:
        return frames, self.settings.features

    def build(self, spec: ClipSpec, weights: Weights) -> keras.Model:
        del weights
        keras: Any = load_keras()
        pixels = keras.Input((spec.size, spec.size, 3), name="pixels", dtype="float32")
        x = keras.layers.Rescaling(1 / 127.5, offset=-1.0)(pixels)
        x = keras.layers.Conv2D(self.settings.features, 3, strides=2, padding="same", activation="relu")(x)
        return keras.Model(pixels, keras.layers.GlobalAveragePooling2D()(x))


class ToyBlocksSettings(BackboneSettings):
    name: Literal["toy-blocks"] = "toy-blocks"
    weights: str = "random"


class ToyBlocks(Backbone[ToyBlocksSettings]):
    """A stem and two blocks of one and two convolutions."""

    name: ClassVar[str] = "toy-blocks"
    title: ClassVar[str] = "toy blocks"
    settings_type: ClassVar[type[BackboneSettings]] = ToyBlocksSettings

    @property
    def blocks(self) -> tuple[str, ...]:
        return ("one", "two")

    def feature_shape(self, frames: int) -> tuple[int, int]:
        return frames, 16

    def build(self, spec: ClipSpec, weights: Weights) -> keras.Model:
        del weights
        layers: Any = load_keras().layers
        pixels = layers.Input((spec.size, spec.size, 3), name="pixels", dtype="float32")
        x = layers.Rescaling(1 / 127.5, offset=-1.0)(pixels)
        for name, strides in (("stem", 4), ("one.conv", 1), ("two.conv_a", 2), ("two.conv_b", 1)):
            x = layers.Conv2D(16, 3, strides=strides, padding="same", activation="relu", name=name)(x)
        return load_keras().Model(pixels, layers.GlobalAveragePooling2D()(x))


class ToyHeadSettings(HeadSettings):
    name: Literal["toy-average"] = "toy-average"


class ToyHead(Head[ToyHeadSettings]):
    """The average over time."""

    name: ClassVar[str] = "toy-average"
    title: ClassVar[str] = "toy average"
    settings_type: ClassVar[type[HeadSettings]] = ToyHeadSettings

    def body(self, features: Any) -> Any:
        return load_keras().layers.GlobalAveragePooling1D()(features)
