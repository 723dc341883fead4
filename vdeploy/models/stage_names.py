"""Names of the two stages' models, in Keras, in every format and on Triton; imports nothing, for clients."""

from __future__ import annotations

__all__ = ["SUFFIXES", "is_stage", "stage_model"]

SUFFIXES = {"extractor": "_features", "classifier": "_classifier"}
"""How the name of a stage's model ends, by stage."""


def stage_model(stage: str, architecture: str) -> str:
    """Return the name of the model of a stage: ``vgg19_features`` of the extractor ``vgg19``."""
    return f"{architecture.replace('-', '_')}{SUFFIXES[stage]}"


def is_stage(model: str) -> bool:
    """Return whether a model has the name of a stage."""
    return model.endswith(tuple(SUFFIXES.values()))
