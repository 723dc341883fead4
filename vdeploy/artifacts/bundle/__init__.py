"""The bundle: what was exported from a run, what was found in it, and that it still is what the manifest says."""

from __future__ import annotations

from vdeploy.artifacts.bundle.folder import MANIFEST, Bundle, digest_of, size_of
from vdeploy.artifacts.bundle.manifest import (
    CLASSES,
    SCHEMA_VERSION,
    Artifact,
    Calibration,
    HeldOut,
    Manifest,
    Measure,
    Parity,
    Stage,
    StageInfo,
    TensorSpec,
)

__all__ = [
    "CLASSES",
    "MANIFEST",
    "SCHEMA_VERSION",
    "Artifact",
    "Bundle",
    "Calibration",
    "HeldOut",
    "Manifest",
    "Measure",
    "Parity",
    "Stage",
    "StageInfo",
    "TensorSpec",
    "digest_of",
    "size_of",
]
