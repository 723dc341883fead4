"""Manifests of bundles of version 1, read as if they were of version 2.

Version 1 knew one backbone and one head: ``extractor`` named a layer of VGG19, ``classifier`` the sizes of an LSTM.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from vdeploy.artifacts.bundle.manifest import (
    SCHEMA_VERSION,
    Artifact,
    HeldOut,
    Manifest,
    StageInfo,
    TensorSpec,
    canonical_digest,
)
from vdeploy.video.clips import ClipSpec

__all__ = ["upgraded"]


class _Extractor(BaseModel):
    model_config = ConfigDict(extra="forbid")
    layer: Literal["avg", "avg45", "fc2"]
    dim: int
    weights: str
    weights_sha256: str


class _Classifier(BaseModel):
    model_config = ConfigDict(extra="forbid")
    units: int
    dense: int


class _Manifest1(BaseModel):
    """What `bundle.json` held in versions 1.0 to 1.3; later versions added fields with a default."""

    model_config = ConfigDict(extra="forbid")

    schema_version: str
    vdeploy_version: str
    created: str
    run: str
    classes: tuple[str, str]
    threshold: float = Field(ge=0, le=1)
    temperature: float = Field(gt=0)
    bias: float = 0.0
    clip: dict[str, Any]
    clip_seconds: float | None = Field(None, gt=0)
    extractor: _Extractor
    metrics: dict[str, Any]
    artifacts: tuple[Artifact, ...]
    classifier: _Classifier | None = None
    classifier_sha256: str = ""
    source: str = ""
    end_to_end: dict[str, HeldOut] = Field(default_factory=dict)
    documents: dict[str, str] = Field(default_factory=dict)


def upgraded(values: Mapping[str, Any]) -> Manifest:
    """Read a manifest of version 1.0 to 1.3.

    Args:
        values: What `bundle.json` holds.

    Returns:
        The manifest in today's form, with the digest that it had.

    Raises:
        pydantic.ValidationError: It is no such manifest.
    """
    old = _Manifest1.model_validate(values)
    kept = {name: getattr(old, name) for name in Manifest.model_fields if name not in {"schema_version", "stages"}}
    manifest = Manifest(schema_version=SCHEMA_VERSION, stages=_stages(old), **kept)
    return manifest.with_digest(canonical_digest(old))


def _stages(old: _Manifest1) -> tuple[StageInfo, ...]:
    spec = ClipSpec.from_dict(old.clip)
    clip, features = ("batch", "time", spec.size, spec.size, 3), ("batch", "time", old.extractor.dim)
    head = {} if old.classifier is None else {"units": old.classifier.units, "dense": old.classifier.dense}
    return (
        StageInfo(
            id="extractor",
            architecture="vgg19",
            settings={"layer": old.extractor.layer},
            input=TensorSpec(name="frames", dtype="uint8", shape=clip),
            output=TensorSpec(name="features", dtype="float32", shape=features),
            weights=old.extractor.weights,
            weights_sha256=old.extractor.weights_sha256,
        ),
        StageInfo(
            id="classifier",
            architecture="lstm",
            settings=head,
            input=TensorSpec(name="features", dtype="float32", shape=("batch", spec.frames, old.extractor.dim)),
            output=TensorSpec(name="probabilities", dtype="float32", shape=("batch", 2)),
            weights_sha256=old.classifier_sha256,
        ),
    )
