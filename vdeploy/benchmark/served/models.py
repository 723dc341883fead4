"""The models of a server that a row calls."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from vdeploy.triton.names import CLASSIFIER_MODEL, ENSEMBLE_MODEL, EXTRACTOR_MODEL, FEATURES, FRAMES, PROBABILITIES

if TYPE_CHECKING:
    from vdeploy.artifacts.bundle import Manifest
    from vdeploy.benchmark.record import Workload

__all__ = ["STAGE_MODELS", "ServedModel", "served_model"]

STAGE_MODELS = {"extractor": EXTRACTOR_MODEL, "classifier": CLASSIFIER_MODEL}
"""Names of the models that compute, by stage; the ensemble only connects them."""


@dataclasses.dataclass(frozen=True)
class ServedModel:
    """A model of a server.

    Attributes:
        name: Its name.
        input_name: Name of its input.
        output_name: Name of its output.
        output_shape: Shape of the output for one clip.
        stages: The stages that it runs, as in `STAGE_MODELS`.
    """

    name: str
    input_name: str
    output_name: str
    output_shape: tuple[int, ...]
    stages: tuple[str, ...]


def served_model(what: Workload, manifest: Manifest) -> ServedModel:
    """Chooses the model that a row calls; a video is sent to the ensemble.

    Args:
        what: The workload.
        manifest: Manifest of the served bundle.
    """
    classes = (len(manifest.classes),)
    if what == "extractor":
        features = manifest.feature_shape
        return ServedModel(EXTRACTOR_MODEL, FRAMES, FEATURES, features, ("extractor",))
    if what == "classifier":
        return ServedModel(CLASSIFIER_MODEL, FEATURES, PROBABILITIES, classes, ("classifier",))
    return ServedModel(ENSEMBLE_MODEL, FRAMES, PROBABILITIES, classes, ("extractor", "classifier"))
