"""Several trained heads on the same features, and the mean of their probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny, model_serializer, model_validator

from vdeploy.core.errors import RecipeError
from vdeploy.core.lazy_imports import load_keras
from vdeploy.models.base import Head, HeadSettings
from vdeploy.models.registry import head_of, head_settings
from vdeploy.models.training_step import TrainingStep

if TYPE_CHECKING:
    import keras

__all__ = ["Ensemble", "EnsembleSettings", "member_inputs", "member_models"]


def _member(value: Any) -> Any:
    settings = head_settings(value) if isinstance(value, Mapping) else value
    if isinstance(settings, EnsembleSettings):
        raise RecipeError("a member of an ensemble is an ensemble itself", "name the heads that it is made of")
    return settings


class EnsembleSettings(HeadSettings):
    """Settings of an ensemble.

    Attributes:
        name: Name in the registry.
        members: Settings of each head, at least two.
        inputs: Which features a member takes: the first row, rows and width. Empty where each takes all of them.
    """

    name: Literal["ensemble"] = "ensemble"
    members: Annotated[
        tuple[Annotated[SerializeAsAny[HeadSettings], BeforeValidator(_member)], ...], Field(min_length=2)
    ]
    inputs: tuple[tuple[int, int, int], ...] = ()

    @model_validator(mode="after")
    def _each_member_has_an_input(self) -> EnsembleSettings:
        if self.inputs and len(self.inputs) != len(self.members):
            raise ValueError(f"{len(self.inputs)} inputs for {len(self.members)} members")
        return self

    @model_serializer(mode="wrap")
    def _without_absent_inputs(self, write: Any) -> dict[str, Any]:
        return {key: value for key, value in write(self).items() if key != "inputs" or value}


class Ensemble(Head[EnsembleSettings]):
    """The mean of the probabilities of heads that were trained one by one (Lakshminarayanan et al. 2017).

    "Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles", equation 1: all members weigh the
    same. Each member is a model of its own with its normalisation and its calibration, so its weights are those of the
    run that it comes from.
    """

    name: ClassVar[str] = "ensemble"
    title: ClassVar[str] = "ensemble"
    settings_type: ClassVar[type[HeadSettings]] = EnsembleSettings
    lowerings: ClassVar = {
        "onnx": "vdeploy.export.lowering.ensemble:ensemble_to_onnx",
        "tensorflow": "vdeploy.export.lowering.ensemble:EnsembleGraph",
    }

    @property
    def members(self) -> tuple[Head[Any], ...]:
        """The heads."""
        return tuple(head_of(settings) for settings in self.settings.members)

    def body(self, features: Any) -> Any:
        """Add the members and the mean of their probabilities, ``[B, 2]``; each normalises its features itself."""
        keras: Any = load_keras()
        probabilities = []
        for number, head in enumerate(self.members, start=1):
            taken = features
            if self.settings.inputs:
                row, steps, dim = self.settings.inputs[number - 1]
                taken = keras.layers.Reshape((steps, dim), name=f"features_{number}")(
                    features[:, row : row + steps, :dim]
                )
            member = head.build(taken.shape[1:])
            member = keras.Model(member.input, member.output, name=f"{member.name}_{number}")
            probabilities.append(member(taken))
        return keras.layers.Average(name="probabilities")(probabilities)

    def build(self, shape: tuple[int, int]) -> keras.Model:
        """Build the model; each member is a model in it, see `member_models`."""
        keras: Any = load_keras()
        features = keras.Input(shape, name="features", dtype="float32")
        return keras.Model(features, self.body(features), name=self.model_name)

    def training_step(self, shape: tuple[int, int], dtype: str, *, compiled: bool = False) -> TrainingStep:
        """Refuse: members are trained one by one.

        Raises:
            RecipeError: Always.
        """
        del shape, dtype, compiled
        raise RecipeError(
            "an ensemble is not trained itself", "train its members, then: vdeploy ensemble RUN RUN --out ENSEMBLE"
        )


def member_models(model: keras.Model) -> list[keras.Model]:
    """Return the members' models of an ensemble's Keras model, in the order of its settings."""
    members = [layer for layer in model.layers if isinstance(layer, load_keras().Model)]
    return sorted(members, key=lambda member: int(member.name.rpartition("_")[2]))


def member_inputs(model: keras.Model) -> list[keras.Model | None]:
    """Return what picks each member's features out of those of an ensemble; ``None`` where it takes all of them."""
    keras: Any = load_keras()
    whole: Any = model
    picks = {layer.name: layer.output for layer in whole.layers if isinstance(layer, keras.layers.Reshape)}
    names = [f"features_{number}" for number in range(1, len(member_models(model)) + 1)]
    return [keras.Model(whole.input, picks[name]) if name in picks else None for name in names]
