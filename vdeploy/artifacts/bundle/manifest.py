"""What `bundle.json` holds. Versions after 1.0 added nothing without a default: manifests of 1.0 are read too."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from vdeploy.models.backbones.vgg19.feature_layers import Layer
from vdeploy.video.clips import ClipSpec

__all__ = [
    "CLASSES",
    "SCHEMA_VERSION",
    "Artifact",
    "Calibration",
    "Classifier",
    "Extractor",
    "HeldOut",
    "Manifest",
    "Measure",
    "Parity",
    "Stage",
    "TensorSpec",
]

SCHEMA_VERSION = "1.3"
CLASSES = ("non-violent", "violent")
"""Names of the two probabilities, in order."""

Stage = Literal["extractor", "classifier", "pipeline"]
Measure = Literal["values", "direction"]
"""What a tolerance limits: the largest difference over the largest value, or one minus the cosine of the worst row."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TensorSpec(_Model):
    """An input or output of an artifact; a dynamic axis is a name, a fixed one a number."""

    name: str
    dtype: Literal["uint8", "float32"]
    shape: tuple[int | str, ...]


class Parity(_Model):
    """How far an artifact's outputs are from the reference's, and how far they may be."""

    reference: str
    batches: tuple[int, ...]
    max_abs: float = Field(description="largest absolute difference over all outputs")
    max_rel: float = Field(description="largest absolute difference over the largest reference value")
    tolerance: float = Field(description="limit that was applied to the measure")
    measure: Measure = "values"
    cosine: float | None = Field(None, description="cosine to the reference of the worst row")
    inputs: Literal["real", "synthetic"] = "synthetic"
    executed: str = Field("artifact", description="what was run: the artifact, or what it was built from")


class HeldOut(_Model):
    """Verdicts on clips that the run did not learn from, beside the reference's on the same clips."""

    split: str
    clips: int
    threshold: float
    agreement: float = Field(description="share of clips with the reference's verdict")
    drift_mean: float = Field(description="mean absolute difference of the probability of violence")
    drift_p99: float
    drift_max: float
    accuracy: float
    accuracy_interval: tuple[float, float]
    reference_accuracy: float
    roc_auc: float | None
    roc_auc_interval: tuple[float, float] | None
    reference_roc_auc: float | None
    probabilities: tuple[float, ...] = Field(description="of violence, a clip each")
    reference: tuple[float, ...] = Field(description="the reference's, clip by clip")


class Calibration(_Model):
    """The clips that an artifact was calibrated on, all of the training split."""

    clips: int
    sha256: tuple[str, ...]


class Artifact(_Model):
    """One exported file or folder."""

    stage: Stage
    format: str
    precision: str = Field(description="precision found in the file")
    path: str = Field(description="path inside the bundle, POSIX")
    sha256: str = Field(description="of the file; of a folder, the hash of its files' paths and hashes")
    bytes: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    parity: Parity
    toolchain: dict[str, str]
    details: dict[str, Any] = Field(default_factory=dict, description="what its format alone has to tell")
    calibration: Calibration | None = None
    held_out: HeldOut | None = Field(None, description="this stage with the reference's other stage")


class Extractor(_Model):
    """Which VGG19 the features come from."""

    layer: Layer
    dim: int
    weights: str
    weights_sha256: str


class Classifier(_Model):
    """How large the classifier is."""

    units: int = Field(description="of the LSTM")
    dense: int = Field(description="of the dense layer behind it")


class Manifest(_Model):
    """What `bundle.json` holds."""

    schema_version: str
    vdeploy_version: str
    created: str
    run: str
    classes: tuple[str, str]
    threshold: float = Field(ge=0, le=1)
    temperature: float = Field(gt=0, description="what the classifier's logits were divided by; inside it already")
    bias: float = Field(0.0, description="what the violent class's logit was raised by before that; inside as well")
    clip: dict[str, Any]
    clip_seconds: float | None = Field(None, gt=0, description="median duration of the training clips, if it is known")
    extractor: Extractor
    metrics: dict[str, Any]
    artifacts: tuple[Artifact, ...]
    classifier: Classifier | None = Field(None, description="unknown in bundles of version 1.0")
    classifier_sha256: str = Field("", description="hash of the run's classifier.keras")
    source: str = Field("", description="name of the data set")
    end_to_end: dict[str, HeldOut] = Field(default_factory=dict, description="both stages in a format, by its name")
    documents: dict[str, str] = Field(default_factory=dict, description="SHA-256 of further files by path")

    @property
    def digest(self) -> str:
        """SHA-256 of the manifest in canonical JSON: two bundles with the same one are the same."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    @property
    def clip_spec(self) -> ClipSpec:
        """The frames that both stages expect."""
        return ClipSpec.from_dict(self.clip)

    @property
    def formats(self) -> tuple[str, ...]:
        """Formats that hold both stages, in the order of the artifacts."""
        held = {(artifact.stage, artifact.format) for artifact in self.artifacts}
        names = dict.fromkeys(artifact.format for artifact in self.artifacts)
        return tuple(name for name in names if {("extractor", name), ("classifier", name)} <= held)
