"""A gated recurrent unit over the features of a clip, pooling over time, and a dense layer."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from vdeploy.core.lazy_imports import load_keras
from vdeploy.models.base import Head, HeadSettings

__all__ = ["GRU", "GRUSettings"]

_UNROLLED_STEPS = 64
"""Up to so many steps in time, the recurrence is unrolled in training as well; for export, it always is."""


class GRUSettings(HeadSettings):
    """Settings of the GRU head.

    Attributes:
        name: Name in the registry.
        units: Units of the GRU.
        pooling: What goes on from the GRU: its ``"last"`` output, or the ``"mean"`` of its outputs at all steps.
        dense: Units of the dense layer behind it.
        dropout: Share of features, and of pooled outputs, that is dropped in training.
    """

    name: Literal["gru"] = "gru"
    units: int = Field(128, ge=1, le=4096)
    pooling: Literal["last", "mean"] = "mean"
    dense: int = Field(64, ge=1, le=4096)
    dropout: float = Field(0.5, ge=0, lt=1)


class GRU(Head[GRUSettings]):
    """The GRU head (Cho et al. 2014, "Learning Phrase Representations using RNN Encoder-Decoder").

    Three gates for the LSTM's four, which suits few clips. Features are dropped for all steps of a clip at once, as in
    the LSTM head.
    """

    name: ClassVar[str] = "gru"
    title: ClassVar[str] = "GRU"
    settings_type: ClassVar[type[HeadSettings]] = GRUSettings
    lowerings: ClassVar = {
        "onnx": "vdeploy.export.lowering.gru:gru_onnx",
        "tensorflow": "vdeploy.export.lowering.gru:GRUGraph",
    }

    def body(self, features: Any) -> Any:
        """Add dropout, GRU, pooling over time and the dense layer."""
        layers: Any = load_keras().layers
        settings, (steps, dim) = self.settings, features.shape[1:]
        x = layers.Dropout(settings.dropout, noise_shape=(None, 1, dim), name="dropout_features")(features)
        mean = settings.pooling == "mean"
        x = layers.GRU(settings.units, return_sequences=mean, unroll=steps <= _UNROLLED_STEPS, name="gru")(x)
        if mean:
            x = layers.GlobalAveragePooling1D(name="mean")(x)
        x = layers.Dropout(settings.dropout, name="dropout_gru")(x)
        return layers.Dense(settings.dense, activation="relu", name="dense")(x)
