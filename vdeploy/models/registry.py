"""The registry: names of backbones and heads, and the modules that hold them, imported when they are asked for."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from vdeploy.core.errors import RecipeError
from vdeploy.core.settings import Settings
from vdeploy.core.text import suggestion
from vdeploy.models.base import Backbone, Head
from vdeploy.models.region import in_region
from vdeploy.models.temporal_shift import with_temporal_shift

__all__ = [
    "BACKBONES",
    "COMBINED",
    "DEFAULT_BACKBONE",
    "DEFAULT_HEAD",
    "ENSEMBLE",
    "HEADS",
    "backbone_of",
    "backbone_settings",
    "backbone_type",
    "head_of",
    "head_settings",
    "head_type",
]

BACKBONES: dict[str, str] = {
    "combined": "vdeploy.models.backbones.combined:Combined",
    "efficientnet-lite0": "vdeploy.models.backbones.efficientnet_lite.model:EfficientNetLite0",
    "efficientnet-lite1": "vdeploy.models.backbones.efficientnet_lite.model:EfficientNetLite1",
    "efficientnet-lite2": "vdeploy.models.backbones.efficientnet_lite.model:EfficientNetLite2",
    "efficientnet-v2-b0": "vdeploy.models.backbones.efficientnet_v2:EfficientNetV2B0",
    "i3d": "vdeploy.models.backbones.i3d.model:I3D",
    "mobilenet-v3": "vdeploy.models.backbones.mobilenet_v3:MobileNetV3",
    "two-stream": "vdeploy.models.backbones.two_stream:TwoStream",
    "vgg19": "vdeploy.models.backbones.vgg19.model:VGG19",
}
"""Class of each backbone by name, as ``"module:class"``. A further model is one more line here."""

HEADS: dict[str, str] = {
    "ensemble": "vdeploy.models.heads.ensemble:Ensemble",
    "gru": "vdeploy.models.heads.gru:GRU",
    "lstm": "vdeploy.models.heads.lstm.model:LSTM",
    "pooling": "vdeploy.models.heads.pooling:Pooling",
    "transformer": "vdeploy.models.heads.transformer:Transformer",
}
"""Class of each head by name, as ``"module:class"``."""

DEFAULT_BACKBONE = "vgg19"
DEFAULT_HEAD = "lstm"
COMBINED = "combined"
"""The backbone that is made of those of finished runs; no recipe names it."""
ENSEMBLE = "ensemble"
"""The head that is made of trained ones."""


def backbone_type(name: str) -> type[Backbone[Any]]:
    """Import the class of a backbone.

    Raises:
        RecipeError: There is no backbone of that name; the message suggests the nearest one.
    """
    found: type[Backbone[Any]] = _load("backbone", name, BACKBONES)
    return found


def head_type(name: str) -> type[Head[Any]]:
    """Import the class of a head.

    Raises:
        RecipeError: There is no head of that name; the message suggests the nearest one.
    """
    found: type[Head[Any]] = _load("head", name, HEADS)
    return found


def backbone_settings(values: Mapping[str, Any], section: str = "backbone") -> Any:
    """Validate the settings of a backbone; ``name`` says of which.

    Args:
        values: The settings.
        section: Where they stand, for messages.

    Raises:
        RecipeError: The name or a key is unknown, or a value is out of range.
    """
    kind = backbone_type(str(values.get("name", DEFAULT_BACKBONE)))
    return _validate(section, kind.settings_type, {"name": kind.name, **values})


def head_settings(values: Mapping[str, Any]) -> Any:
    """Validate the settings of a head; ``name`` says of which.

    Raises:
        RecipeError: The name or a key is unknown, or a value is out of range.
    """
    kind = head_type(str(values.get("name", DEFAULT_HEAD)))
    return _validate("head", kind.settings_type, {"name": kind.name, **values})


def backbone_of(settings: Any, region: str = "full", temporal_shift: Mapping[str, Any] | None = None) -> Backbone[Any]:
    """Make a backbone.

    Args:
        settings: Its settings, or a mapping of them, in which ``region`` and ``temporal_shift`` may stand as well.
        region: Where in the frame it looks; see `vdeploy.models.region`.
        temporal_shift: What is shifted between frames, if anything; see `vdeploy.models.temporal_shift`.

    Raises:
        RecipeError: A name or a key is unknown, or a value is out of range.
    """
    if isinstance(settings, Mapping):
        values = dict(settings)
        region = str(values.pop("region", region))
        temporal_shift = values.pop("temporal_shift", temporal_shift)
        settings = backbone_settings(values)
    backbone = with_temporal_shift(backbone_type(settings.name)(settings), temporal_shift)
    return in_region(backbone, region)


def head_of(settings: Any) -> Head[Any]:
    """Make a head from its settings, or from a mapping of them."""
    valid = head_settings(settings) if isinstance(settings, Mapping) else settings
    return head_type(valid.name)(valid)


def _load(kind: str, name: str, table: Mapping[str, str]) -> Any:
    if name not in table:
        raise RecipeError(f"there is no {kind} {name!r}{suggestion(name, table)}", f"known: {', '.join(sorted(table))}")
    module, _, attribute = table[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def _validate(section: str, settings_type: type[Settings], values: Mapping[str, Any]) -> Any:
    try:
        return settings_type.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join([section, *(str(part) for part in first["loc"][:1])])
        fields = list(settings_type.model_fields)
        if first["type"] == "extra_forbidden":
            meant = suggestion(str(first["loc"][-1]), fields)
            raise RecipeError(f"unknown key {key}{meant}", f"known here: {', '.join(fields)}") from error
        raise RecipeError(f"{key}: {first['msg']}, got {first['input']!r}", "see the page of the model") from error
