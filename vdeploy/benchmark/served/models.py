"""The models of a server, by what a row measures."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from vdeploy.triton.names import CLASSIFIER_MODEL, ENSEMBLE_MODEL, EXTRACTOR_MODEL, FEATURES, FRAMES, PROBABILITIES

if TYPE_CHECKING:
    from vdeploy.artifacts.bundle import Manifest
    from vdeploy.benchmark.record import What

__all__ = ["STAGE_MODELS", "ServedModel", "served_model"]

STAGE_MODELS = {"extractor": EXTRACTOR_MODEL, "classifier": CLASSIFIER_MODEL}
"""Names of the models that compute, by stage; the ensemble itself only passes on."""


@dataclasses.dataclass(frozen=True)
class ServedModel:
    """A model as it is called.

    Attributes:
        name: Its name.
        taken: Name of its input.
        given: Name of its output.
        answer: Shape of the output for one clip.
        stages: What it is made of, as in `STAGE_MODELS`.
    """

    name: str
    taken: str
    given: str
    answer: tuple[int, ...]
    stages: tuple[str, ...]


def served_model(what: What, manifest: Manifest) -> ServedModel:
    """The model that a row calls; a video is sent to the ensemble."""
    classes = (len(manifest.classes),)
    if what == "extractor":
        features = (manifest.clip_spec.frames, manifest.extractor.dim)
        return ServedModel(EXTRACTOR_MODEL, FRAMES, FEATURES, features, ("extractor",))
    if what == "classifier":
        return ServedModel(CLASSIFIER_MODEL, FEATURES, PROBABILITIES, classes, ("classifier",))
    return ServedModel(ENSEMBLE_MODEL, FRAMES, PROBABILITIES, classes, ("extractor", "classifier"))
