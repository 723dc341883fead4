"""A transformer encoder over the features of a clip (Vaswani et al. 2017, "Attention Is All You Need")."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from vdeploy.core.lazy_imports import load_keras
from vdeploy.models.base import Head, HeadSettings

__all__ = ["Transformer", "TransformerSettings"]

_EPSILON = 1e-5


class TransformerSettings(HeadSettings):
    """Settings of the transformer head.

    Attributes:
        layers: Encoder layers.
        heads: Attention heads of a layer.
        width: Size of a token, D; divided among the heads.
        expansion: Size of the hidden layer between two dense layers, in multiples of the width.
        dropout: Share of values that is dropped in training.
    """

    name: Literal["transformer"] = "transformer"
    layers: int = Field(2, ge=1, le=24)
    heads: int = Field(4, ge=1, le=64)
    width: int = Field(128, ge=8, le=4096)
    expansion: int = Field(2, ge=1, le=8)
    dropout: float = Field(0.3, ge=0, lt=1)


class Transformer(Head[TransformerSettings]):
    """Self-attention over the t steps of a clip, with learned positions, averaged over time.

    Layers normalise before attention and dense layers rather than after them (Xiong et al. 2020, "On Layer
    Normalization in the Transformer Architecture"), which trains without a long warm-up. They have no gain
    and no bias, for the kernels and biases of the layers behind them do the same. Learned positions are one bias
    for each step and feature of the projection, so a model takes clips of one length.
    """

    name: ClassVar[str] = "transformer"
    title: ClassVar[str] = "transformer"
    settings_type: ClassVar[type[HeadSettings]] = TransformerSettings

    def body(self, features: Any) -> Any:
        """Add the projection with positions, the encoder layers and the average over time."""
        layers: Any = load_keras().layers
        settings, steps = self.settings, features.shape[1]
        x = layers.Dropout(settings.dropout, name="dropout_features")(features)
        shape = (steps, settings.width)
        x = layers.EinsumDense("btf,fd->btd", output_shape=shape, bias_axes="td", name="projection")(x)
        for number in range(settings.layers):
            x = self._layer(x, f"layer{number + 1}")
        x = layers.GlobalAveragePooling1D(name="time_average")(_normalized(x))
        return layers.Dropout(settings.dropout, name="dropout_average")(x)

    def _layer(self, x: Any, name: str) -> Any:
        layers: Any = load_keras().layers
        settings = self.settings
        normal = _normalized(x)
        attention = layers.MultiHeadAttention(
            settings.heads, max(settings.width // settings.heads, 1), name=f"{name}_attention"
        )(normal, normal)
        x = layers.Add(name=f"{name}_sum1")([x, layers.Dropout(settings.dropout, name=f"{name}_dropout1")(attention)])
        hidden = layers.Dense(settings.expansion * settings.width, activation="relu", name=f"{name}_dense1")(
            _normalized(x)
        )
        hidden = layers.Dense(settings.width, name=f"{name}_dense2")(hidden)
        return layers.Add(name=f"{name}_sum2")([x, layers.Dropout(settings.dropout, name=f"{name}_dropout2")(hidden)])


def _normalized(x: Any) -> Any:
    """Normalise over the last axis; written out, as a converter to INT8 needs it."""
    ops: Any = load_keras().ops
    centred = x - ops.mean(x, axis=-1, keepdims=True)
    return centred * ops.rsqrt(ops.mean(ops.square(centred), axis=-1, keepdims=True) + _EPSILON)
