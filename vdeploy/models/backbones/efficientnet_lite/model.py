"""EfficientNet-Lite, pre-trained on ImageNet, frame by frame."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from vdeploy.models.backbones.efficientnet_lite.checkpoint import load_checkpoint
from vdeploy.models.backbones.efficientnet_lite.network import (
    FEATURES,
    Variant,
    block_names,
    build_network,
    residual_block_names,
)
from vdeploy.models.backbones.efficientnet_lite.weights import FILES
from vdeploy.models.base import Backbone, BackboneSettings
from vdeploy.models.weights.find import Weights
from vdeploy.models.weights.published import WeightsFile

if TYPE_CHECKING:
    import keras

    from vdeploy.video.clips import ClipSpec

__all__ = ["EfficientNetLite0", "EfficientNetLite1", "EfficientNetLite2"]


class _Settings(BackboneSettings):
    """Settings of EfficientNet-Lite.

    Attributes:
        weights: ``"imagenet"``, ``"random"``, or the path of a published ``.pth`` file.
    """

    weights: str = "imagenet"


class _Lite0Settings(_Settings):
    """Settings of EfficientNet-Lite0."""

    name: Literal["efficientnet-lite0"] = "efficientnet-lite0"


class _Lite1Settings(_Settings):
    """Settings of EfficientNet-Lite1."""

    name: Literal["efficientnet-lite1"] = "efficientnet-lite1"


class _Lite2Settings(_Settings):
    """Settings of EfficientNet-Lite2."""

    name: Literal["efficientnet-lite2"] = "efficientnet-lite2"


class _EfficientNetLite(Backbone[_Settings]):
    """EfficientNet-Lite as a backbone: 1280 features a frame; scaling to -1 to 1 is inside the graph."""

    variant: ClassVar[Variant]

    def feature_shape(self, frames: int) -> tuple[int, int]:
        """Return (T, 1280)."""
        return frames, FEATURES

    @property
    def published_weights(self) -> Mapping[str, WeightsFile]:
        """The weights that were trained on ImageNet."""
        return {"imagenet": FILES[self.variant]}

    @property
    def blocks(self) -> tuple[str, ...]:
        """The inverted residual blocks, and the last convolution."""
        return (*block_names(self.variant), "conv_head")

    @property
    def residual_blocks(self) -> tuple[str, ...]:
        """The inverted residual blocks that keep the size and the number of channels."""
        return residual_block_names(self.variant)

    def build(self, spec: ClipSpec, weights: Weights) -> keras.Model:
        """Build the network; see `Backbone.build`."""
        network = build_network(self.variant, spec.size)
        if weights.path is not None:
            load_checkpoint(network, weights.path)
        return network


class EfficientNetLite0(_EfficientNetLite):
    """The smallest: 0.77 GFLOP a frame of 224 pixels, 3.4 million parameters up to the features."""

    name: ClassVar[str] = "efficientnet-lite0"
    title: ClassVar[str] = "EfficientNet-Lite0"
    settings_type: ClassVar[type[BackboneSettings]] = _Lite0Settings
    variant: ClassVar[Variant] = "lite0"


class EfficientNetLite1(_EfficientNetLite):
    """A tenth deeper than EfficientNet-Lite0; trained at 240 pixels."""

    name: ClassVar[str] = "efficientnet-lite1"
    title: ClassVar[str] = "EfficientNet-Lite1"
    settings_type: ClassVar[type[BackboneSettings]] = _Lite1Settings
    variant: ClassVar[Variant] = "lite1"


class EfficientNetLite2(_EfficientNetLite):
    """A fifth deeper and a tenth wider than EfficientNet-Lite0; trained at 260 pixels."""

    name: ClassVar[str] = "efficientnet-lite2"
    title: ClassVar[str] = "EfficientNet-Lite2"
    settings_type: ClassVar[type[BackboneSettings]] = _Lite2Settings
    variant: ClassVar[Variant] = "lite2"
