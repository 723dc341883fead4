"""Settings of backbones whose convolutions may have fewer channels, as ``vdeploy prune`` makes them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import SerializerFunctionWrapHandler, model_serializer, model_validator

from vdeploy.core.errors import WeightsError
from vdeploy.models.base import BackboneSettings

__all__ = ["NarrowSettings", "refuse_whole_weights"]


class NarrowSettings(BackboneSettings):
    """Settings of such a backbone.

    Attributes:
        channels: Output channels of the convolutions, where they are fewer than published; the convolutions that
            features come from keep theirs. It is left out where it is empty.
        convolutions: Published output channels of each convolution, in their order.
    """

    channels: tuple[int, ...] = ()
    convolutions: ClassVar[Mapping[str, int]]

    @model_validator(mode="after")
    def _channels_fit(self) -> NarrowSettings:
        if not self.channels:
            return self
        if len(self.channels) != len(self.convolutions):
            raise ValueError(f"channels must be {len(self.convolutions)} numbers, one for each convolution")
        for name, width in self.widths.items():
            if not 1 <= width <= self.convolutions[name]:
                raise ValueError(f"channels of {name} must be from 1 to {self.convolutions[name]}")
        if not self.features:
            raise ValueError("channels need another layer: these features have weights for each channel")
        for name in self.features:
            if self.widths[name] != self.convolutions[name]:
                raise ValueError(f"{name} is a feature and keeps its {self.convolutions[name]} channels")
        return self

    @model_serializer(mode="wrap")
    def _without_usual_channels(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = serialize(self)
        return values if self.channels else {key: value for key, value in values.items() if key != "channels"}

    @property
    def widths(self) -> dict[str, int]:
        """Output channels by convolution."""
        return dict(zip(self.convolutions, self.channels or self.convolutions.values(), strict=True))

    @property
    def features(self) -> tuple[str, ...]:
        """The convolutions that features come from; none where features have weights for each channel."""
        raise NotImplementedError


def refuse_whole_weights(title: str, path: Path | None) -> None:
    """Refuse a file of published weights for a network with fewer channels.

    Args:
        title: Name of the backbone.
        path: The file; ``None`` for random weights.

    Raises:
        WeightsError: There is a file.
    """
    if path is not None:
        raise WeightsError(
            f"{path} holds weights of the whole {title}, and backbone.channels has fewer",
            "leave backbone.channels out, or give the file that vdeploy prune has written",
        )
