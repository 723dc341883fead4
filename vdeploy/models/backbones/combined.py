"""Several backbones side by side on the same frames, for an ensemble whose members have different ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from vdeploy.core.errors import RecipeError, WeightsError
from vdeploy.core.lazy_imports import load_keras
from vdeploy.models.base import Backbone, BackboneSettings, Granularity
from vdeploy.models.registry import backbone_of
from vdeploy.models.weights.find import Weights

if TYPE_CHECKING:
    import keras

    from vdeploy.video.clips import ClipSpec

__all__ = ["Combined", "CombinedSettings"]


def _branch(value: Any) -> Any:
    """Complete the settings of a branch: name and settings of a backbone, its ``region``, and its ``frames``."""
    if not isinstance(value, dict) or "name" not in value or not isinstance(value.get("frames"), int):
        raise RecipeError(f"a branch of a combined backbone needs a name and frames, got {value!r}", "see its page")
    if value["name"] == Combined.name:
        raise RecipeError("a branch of a combined backbone is one itself", "name the backbones that it is made of")
    backbone = backbone_of({key: part for key, part in value.items() if key != "frames"})
    return {"name": backbone.name, **backbone.stage_settings, "frames": value["frames"]}


class CombinedSettings(BackboneSettings):
    """Settings of combined backbones.

    Attributes:
        name: Name in the registry.
        weights: Where those of the branches came from, in words; the run folder holds them.
        branches: Name, settings, ``region`` and ``frames`` of each backbone, at least two.
    """

    name: Literal["combined"] = "combined"
    weights: str = "random"
    branches: Annotated[tuple[Annotated[dict[str, Any], BeforeValidator(_branch)], ...], Field(min_length=2)]


class Combined(Backbone[CombinedSettings]):
    """Backbones that see the same frames, each as many of them as it takes, evenly spaced.

    A backbone of T' frames gets the middle one of each T / T' frames in a row; for an even T / T', the later one of the
    two in the middle. Features of the branches follow each other in time, padded with zeros to the width of the widest,
    so that a row belongs to one branch and is verified by itself. Windows are scored whole.

    Attributes:
        parts: The backbone of each branch, and its frames.
    """

    name: ClassVar[str] = "combined"
    title: ClassVar[str] = "combined backbones"
    settings_type: ClassVar[type[BackboneSettings]] = CombinedSettings
    granularity: ClassVar[Granularity] = "clip"

    def __init__(self, settings: CombinedSettings) -> None:
        super().__init__(settings)
        self.parts: list[tuple[Backbone[Any], int]] = []
        for branch in settings.branches:
            values = dict(branch)
            frames = int(values.pop("frames"))
            self.parts.append((backbone_of(values), frames))

    @property
    def inputs(self) -> tuple[tuple[int, int, int], ...]:
        """Where the features of each branch are: the first row, rows and width, as in `EnsembleSettings.inputs`."""
        places, row = [], 0
        for backbone, frames in self.parts:
            steps, dim = backbone.feature_shape(frames)
            places.append((row, steps, dim))
            row += steps
        return tuple(places)

    def feature_shape(self, frames: int) -> tuple[int, int]:
        """Return the rows of all branches, and the width of the widest."""
        del frames
        return sum(steps for _, steps, _ in self.inputs), max(dim for *_, dim in self.inputs)

    def check(self, spec: ClipSpec) -> None:
        """Refuse clips whose frames a branch cannot take evenly spaced, and those that it cannot take at all."""
        for backbone, frames in self.parts:
            if frames < 1 or spec.frames % frames:
                raise RecipeError(
                    f"{backbone.title} cannot take {frames} evenly spaced frames of a clip of {spec.frames}",
                    "the frames of each member must divide those of the member with the most",
                )
            backbone.check(dataclasses.replace(spec, frames=frames))

    def build(self, spec: ClipSpec, weights: Weights) -> keras.Model:
        """Build the network with random weights; a run's own are put in by `load`.

        Raises:
            WeightsError: Other weights are given.
        """
        if weights.path is not None:
            raise WeightsError(f"{weights.path} holds no weights of combined backbones", "give no --weights")
        return self.join(
            spec, [backbone.load(dataclasses.replace(spec, frames=frames), weights) for backbone, frames in self.parts]
        )

    def join(self, spec: ClipSpec, networks: Sequence[keras.Model]) -> keras.Model:
        """Put networks side by side.

        Args:
            spec: The clips that they will see together.
            networks: The network of each branch, with its weights.

        Returns:
            A model ``pixels float32[B, T, H, W, 3]`` to ``features float32[B, t, F]``.
        """
        keras: Any = load_keras()
        ops = keras.ops
        pixels = keras.Input((spec.frames, spec.size, spec.size, 3), name="clips", dtype="float32")
        rows = []
        width = self.feature_shape(spec.frames)[1]
        for number, ((backbone, frames), network, (_, steps, dim)) in enumerate(
            zip(self.parts, networks, self.inputs, strict=True), start=1
        ):
            every = spec.frames // frames
            seen = pixels if every == 1 else pixels[:, every // 2 :: every]
            if backbone.granularity == "frame":
                seen = ops.reshape(seen, (-1, spec.size, spec.size, 3))
            branch = keras.Model(network.input, network.output, name=f"branch_{number}")
            features = ops.reshape(branch(seen), (-1, steps, dim))
            rows.append(features if dim == width else ops.pad(features, ((0, 0), (0, 0), (0, width - dim))))
        model = keras.Model(pixels, ops.concatenate(rows, axis=1), name=self.model_name)
        model.trainable = False
        return model
