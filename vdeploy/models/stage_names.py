"""Names of the two stages' models, in Keras, in every format and on Triton; imports nothing, for clients."""

from __future__ import annotations

__all__ = ["SUFFIXES", "is_stage", "stage_model"]

SUFFIXES = {"extractor": "_features", "classifier": "_classifier"}
"""How the name of a stage's model ends, by stage."""


def stage_model(stage: str, architecture: str, variant: str = "") -> str:
    """Return the name of the model of a stage: ``vgg19_features`` of the extractor ``vgg19``.

    Args:
        stage: ``"extractor"`` or ``"classifier"``.
        architecture: Name of the backbone or head.
        variant: What tells apart models of one architecture: ``vgg19_1a2b3c4d_features``.
    """
    return f"{'_'.join(filter(None, (architecture.replace('-', '_'), variant)))}{SUFFIXES[stage]}"


def is_stage(model: str) -> bool:
    """Return whether a model has the name of a stage."""
    return model.endswith(tuple(SUFFIXES.values()))
