"""Two streams (Simonyan and Zisserman 2014): the frames and their differences, through one backbone of the registry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny, field_serializer

from vdeploy.core.errors import RecipeError
from vdeploy.core.lazy_imports import load_keras
from vdeploy.models.base import BackboneSettings
from vdeploy.models.multi_view import MultiViewBackbone
from vdeploy.models.registry import COMBINED, backbone_of, backbone_settings

if TYPE_CHECKING:
    from vdeploy.video.clips import ClipSpec

__all__ = ["STILL", "TwoStream", "TwoStreamSettings", "differences"]

STILL = 127.5
"""What the motion stream sees where nothing changes: the middle of the range of pixels."""

_TRUNK = "backbone.trunk"


def _trunk(value: Any) -> Any:
    if isinstance(value, BackboneSettings):
        return value
    values = {"name": value} if isinstance(value, str) else value
    if not isinstance(values, Mapping) or "name" not in values:
        raise RecipeError(f"{_TRUNK} names no backbone, got {value!r}", 'for example trunk = "efficientnet-lite0"')
    if values["name"] == TwoStreamSettings.model_fields["name"].default:
        raise RecipeError(f"{_TRUNK} is a two-stream network itself", "name the backbone that both streams go through")
    if values["name"] == COMBINED:
        raise RecipeError(
            f"{_TRUNK} is a combined backbone, which vdeploy ensemble makes of finished runs", "name one backbone"
        )
    if "weights" in values:
        raise RecipeError(f"unknown key {_TRUNK}.weights", "set backbone.weights, which both streams share")
    return backbone_settings(values, _TRUNK)


class TwoStreamSettings(BackboneSettings):
    """Settings of a two-stream network.

    Attributes:
        name: Name in the registry.
        weights: Those of the trunk, as its own settings name them.
        trunk: The backbone that both streams go through: its name, or a table of its name and settings.
    """

    name: Literal["two-stream"] = "two-stream"
    weights: str = "imagenet"
    trunk: Annotated[SerializeAsAny[BackboneSettings], BeforeValidator(_trunk)] = Field(
        "efficientnet-lite0", validate_default=True
    )

    @field_serializer("trunk")
    def _without_weights(self, trunk: BackboneSettings) -> dict[str, Any]:
        return trunk.model_dump(mode="json", exclude={"weights"})


class TwoStream(MultiViewBackbone):
    """Features of each frame, and beside them those of its difference from the frame before.

    Differences of RGB frames stand in for optical flow, as in temporal segment networks (Wang et al. 2016, sec. 3.2).
    They are computed inside the graph. Streams are fused by concatenating their features, so that any head joins them.
    """

    name: ClassVar[str] = "two-stream"
    title: ClassVar[str] = "two-stream network"
    settings_type: ClassVar[type[BackboneSettings]] = TwoStreamSettings
    views = 2

    def __init__(self, settings: TwoStreamSettings) -> None:
        super().__init__(backbone_of(settings.trunk), settings)

    @property
    def cache_key(self) -> str:
        """The name of the trunk, and its key."""
        return f"{self.name} trunk={self.inner.name} {self.inner.cache_key}"

    def check(self, spec: ClipSpec) -> None:
        """Refuse clips that the trunk cannot take, and those without motion."""
        if spec.frames == 1:
            raise RecipeError("a two-stream network takes at least 2 frames, not 1", "set clip.frames")
        super().check(spec)

    def see(self, pixels: Any) -> list[Any]:
        """Return the frames and their differences."""
        return [pixels, differences(pixels)]


def differences(pixels: Any) -> Any:
    """Subtract from each frame the one before it; the first frame gets the difference of the second one.

    Args:
        pixels: ``float32[B, T, S, S, 3]``, 0 to 255, of at least two frames.

    Returns:
        ``float32[B, T, S, S, 3]``: `STILL` plus the difference, from 0 to 255. A network that was trained on pictures
        gets changes in the unit of its pixels, and the sign of a change is kept.
    """
    ops: Any = load_keras().ops
    change = pixels[:, 1:] - pixels[:, :-1]
    return ops.clip(ops.concatenate([change[:, :1], change], axis=1) + STILL, 0.0, 255.0)
