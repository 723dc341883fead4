"""Statistics of the features over time, and a linear classifier or a small dense network on them."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, model_serializer

from vdeploy.core.lazy_imports import load_keras
from vdeploy.models.base import Head, HeadSettings

__all__ = ["Pooling", "PoolingSettings"]

_EPSILON = 1e-6
"""Added before a square root, whose slope at zero has no bound."""


class PoolingSettings(HeadSettings):
    """Settings of the pooling head.

    Attributes:
        name: Name in the registry.
        normalization: ``"layer"`` is that of all heads, see `vdeploy.models.normalization`. ``"square_root"`` takes
            sign(z) sqrt(abs(z)) of every feature z instead, which is the power normalisation of Perronnin, Sanchez and
            Mensink 2010, "Improving the Fisher Kernel for Large-Scale Image Classification", section 3.2, with
            alpha = 0.5: what a few clips have much of does not outweigh the rest, and how strongly the features of a
            step answer as a whole is kept.
        statistics: What is taken of each feature over time: its ``"mean"``, or ``"mean_std"``, mean and standard
            deviation.
        dense: Units of a dense layer before the logits; 0 for a linear classifier.
        dropout: Share of statistics, and of the dense layer's outputs, that is dropped in training.
    """

    name: Literal["pooling"] = "pooling"
    normalization: Literal["layer", "square_root"] = "layer"
    statistics: Literal["mean", "mean_std"] = "mean_std"
    dense: int = Field(0, ge=0, le=4096)
    dropout: float = Field(0.3, ge=0, lt=1)

    @model_serializer(mode="wrap")
    def _without_the_usual_normalization(self, write: Any) -> dict[str, Any]:
        """Leaves out what a version before it had: trainings, studies and trunks of that version go on."""
        return {key: value for key, value in write(self).items() if key != "normalization" or value != "layer"}


class Pooling(Head[PoolingSettings]):
    """The pooling head, which ignores the order of time: the fewest weights, so the first choice for few clips."""

    name: ClassVar[str] = "pooling"
    title: ClassVar[str] = "pooling"
    settings_type: ClassVar[type[HeadSettings]] = PoolingSettings

    @property
    def linear(self) -> bool:
        """Whether there is no dense layer before the logits."""
        return not self.settings.dense

    @property
    def normalized(self) -> bool:
        """Whether the normalisation is that of all heads."""
        return self.settings.normalization == "layer"

    def body(self, features: Any) -> Any:
        """Add the square root and the dense layer, if there are any, the statistics over time, and dropout."""
        keras: Any = load_keras()
        layers, ops, settings = keras.layers, keras.ops, self.settings
        if settings.normalization == "square_root":
            features = _square_root(features) - _square_root(-features)
        x = layers.GlobalAveragePooling1D(keepdims=True, name="average")(features)
        if settings.statistics == "mean_std":
            deviation = layers.Subtract(name="deviation")([features, x])
            variance = ops.mean(ops.square(deviation), axis=1, keepdims=True)
            x = layers.Concatenate(name="statistics")([x, ops.sqrt(variance + _EPSILON)])
        x = layers.Flatten(name="flat")(x)
        x = layers.Dropout(settings.dropout, name="dropout_statistics")(x)
        if settings.dense:
            x = layers.Dense(settings.dense, activation="relu", name="dense")(x)
            x = layers.Dropout(settings.dropout, name="dropout_dense")(x)
        return x


def _square_root(features: Any) -> Any:
    """The square root of positive features, with a bounded slope, and a constant for the others."""
    keras: Any = load_keras()
    return keras.ops.sqrt(keras.ops.relu(features) + _EPSILON)
