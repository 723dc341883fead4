"""An LSTM over the features of a clip, pooling over time, and a dense layer."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from vdeploy.core.lazy_imports import load_keras
from vdeploy.models.base import Head, HeadSettings
from vdeploy.models.heads.lstm.training_step import LSTMStep, Pooling
from vdeploy.models.training_step import TrainingStep

__all__ = ["LSTM", "LSTMSettings"]


class LSTMSettings(HeadSettings):
    """Settings of the LSTM head.

    Attributes:
        units: Units of the LSTM.
        pooling: What goes on from the LSTM: its ``"last"`` output, or the ``"mean"`` of its outputs at all frames.
        dense: Units of the dense layer behind it.
        dropout: Share of features, and of pooled outputs, that is dropped in training.
    """

    name: Literal["lstm"] = "lstm"
    units: int = Field(128, ge=1, le=4096)
    pooling: Pooling = "mean"
    dense: int = Field(64, ge=1, le=4096)
    dropout: float = Field(0.3, ge=0, lt=1)


class LSTM(Head[LSTMSettings]):
    """The LSTM head (Hochreiter and Schmidhuber 1997).

    The normalisation before it has no gain and no bias, for the kernel and the bias of the LSTM do the same. Pooling
    takes the LSTM's last output, or the mean of all outputs (Ng et al. 2015, "Beyond Short Snippets: Deep Networks for
    Video Classification", section 3.4, combine an LSTM's outputs over time as well): a blow in the middle of a clip
    then counts as much as one at its end.
    """

    name: ClassVar[str] = "lstm"
    title: ClassVar[str] = "LSTM"
    settings_type: ClassVar[type[HeadSettings]] = LSTMSettings
    lowerings: ClassVar = {"tensorflow": "vdeploy.export.lowering.lstm_tensorflow:LSTMGraph"}

    def body(self, features: Any) -> Any:
        """Add dropout, LSTM, pooling over time and the dense layer."""
        layers: Any = load_keras().layers
        settings = self.settings
        dropped = layers.Dropout(settings.dropout, noise_shape=(1, 1, features.shape[-1]), name="dropout_features")
        x = dropped(features)
        x = layers.LSTM(settings.units, return_sequences=settings.pooling == "mean", name="lstm")(x)
        if settings.pooling == "mean":
            x = layers.GlobalAveragePooling1D(name="mean")(x)
        x = layers.Dropout(settings.dropout, name="dropout_lstm")(x)
        return layers.Dense(settings.dense, activation="relu", name="dense")(x)

    def training_step(self, shape: tuple[int, int], dtype: str, *, compiled: bool = False) -> TrainingStep:
        """Return the fast step; see `vdeploy.models.heads.lstm.training_step`."""
        del shape, dtype
        settings = self.settings
        return LSTMStep(settings.units, settings.dropout, settings.pooling, compiled=compiled)
