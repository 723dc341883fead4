"""I3D (Carreira and Zisserman 2017), pre-trained on Kinetics-400: all frames of a clip looked at together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from vdeploy.core.errors import RecipeError
from vdeploy.models.backbones.i3d.checkpoint import load_checkpoint
from vdeploy.models.backbones.i3d.network import (
    CONVOLUTIONS,
    FEATURE_CONVOLUTIONS,
    FEATURES,
    MODULES,
    TEMPORAL_STRIDE,
    build_network,
)
from vdeploy.models.backbones.i3d.weights import FILES
from vdeploy.models.backbones.narrow import NarrowSettings, refuse_whole_weights
from vdeploy.models.base import Backbone, BackboneSettings, Granularity
from vdeploy.models.weights.find import Weights
from vdeploy.models.weights.published import WeightsFile

if TYPE_CHECKING:
    import keras

    from vdeploy.video.clips import ClipSpec

__all__ = ["I3D", "I3DSettings"]


class I3DSettings(NarrowSettings):
    """Settings of I3D.

    Attributes:
        name: Name in the registry.
        weights: ``"kinetics-400"``, ``"random"``, or the path of the published checkpoint.
        channels: Output channels of the 57 convolutions, where they are fewer than I3D's; see `NarrowSettings`.
    """

    name: Literal["i3d"] = "i3d"
    weights: str = "kinetics-400"
    convolutions: ClassVar = CONVOLUTIONS

    @property
    def features(self) -> tuple[str, ...]:
        """The convolutions whose outputs Mixed_5c puts together."""
        return FEATURE_CONVOLUTIONS


class I3D(Backbone[I3DSettings]):
    """I3D's RGB stream as a backbone: 1024 features for every eight frames.

    Scaling to -1 to 1 is inside the graph. Features of a step in time depend on frames before and after it, so windows
    are scored whole.
    """

    name: ClassVar[str] = "i3d"
    title: ClassVar[str] = "I3D"
    settings_type: ClassVar[type[BackboneSettings]] = I3DSettings
    granularity: ClassVar[Granularity] = "clip"

    def feature_shape(self, frames: int) -> tuple[int, int]:
        """Return (T / 8, 1024)."""
        return frames // TEMPORAL_STRIDE, FEATURES

    @property
    def published_weights(self) -> Mapping[str, WeightsFile]:
        """The weights that were trained on Kinetics-400."""
        return FILES

    @property
    def blocks(self) -> tuple[str, ...]:
        """The inception modules, Mixed_3b to Mixed_5c."""
        return MODULES

    def build(self, spec: ClipSpec, weights: Weights) -> keras.Model:
        """Build the network; see `Backbone.build`."""
        if self.settings.channels:
            refuse_whole_weights(self.title, weights.path)
        network = build_network(spec.frames, spec.size, widths=self.settings.widths)
        if weights.path is not None:
            load_checkpoint(network, weights.path)
        return network

    def check(self, spec: ClipSpec) -> None:
        """Refuse clips whose frames are no multiple of eight."""
        if spec.frames % TEMPORAL_STRIDE:
            raise RecipeError(
                f"I3D takes a multiple of {TEMPORAL_STRIDE} frames, not {spec.frames}",
                "set clip.frames to 16, 32 or 64",
            )
