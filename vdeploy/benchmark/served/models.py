"""The models of a server that a row calls."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

from vdeploy.triton.names import ENSEMBLE_MODEL, FEATURES, FRAMES, PROBABILITIES

if TYPE_CHECKING:
    from vdeploy.artifacts.bundle import Manifest
    from vdeploy.benchmark.record import Workload

__all__ = ["ServedModel", "served_model"]


@dataclasses.dataclass(frozen=True)
class ServedModel:
    """A model of a server.

    Attributes:
        name: Its name.
        input_name: Name of its input.
        output_name: Name of its output.
        output_shape: Shape of the output for one clip.
        stages: Names of the models that compute, by stage; the ensemble only connects them.
    """

    name: str
    input_name: str
    output_name: str
    output_shape: tuple[int, ...]
    stages: Mapping[str, str]


def served_model(what: Workload, manifest: Manifest) -> ServedModel:
    """Chooses the model that a row calls; a video is sent to the ensemble.

    Args:
        what: The workload.
        manifest: Manifest of the served bundle.
    """
    classes = (len(manifest.classes),)
    models: dict[str, str] = {stage.id: stage.model for stage in manifest.stages}
    if what == "extractor":
        features = manifest.feature_shape
        return ServedModel(models[what], FRAMES, FEATURES, features, {what: models[what]})
    if what == "classifier":
        return ServedModel(models[what], FEATURES, PROBABILITIES, classes, {what: models[what]})
    return ServedModel(ENSEMBLE_MODEL, FRAMES, PROBABILITIES, classes, models)
