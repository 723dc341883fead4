"""What `bundle.json` holds. Manifests of version 1 are read through `vdeploy.artifacts.bundle.versions`."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from vdeploy.evaluation.drift import ScoreHistogram
from vdeploy.models.shift_settings import past_frames
from vdeploy.models.stage_names import stage_model
from vdeploy.video.clips import ClipSpec

__all__ = [
    "CLASSES",
    "SCHEMA_VERSION",
    "Artifact",
    "Calibration",
    "HeldOut",
    "Manifest",
    "Measure",
    "Parity",
    "Stage",
    "StageInfo",
    "TensorSpec",
    "canonical_digest",
]

SCHEMA_VERSION = "2.0"
CLASSES = ("non-violent", "violent")
"""Names of the two probabilities, in order."""

Stage = Literal["extractor", "classifier", "pipeline", "stream"]
"""``"pipeline"``: both in one. ``"stream"``: the extractor frame by frame, with a buffer of what comes before."""
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


class StageInfo(_Model):
    """One stage of the bundle, whatever format it is in."""

    id: Literal["extractor", "classifier"]
    architecture: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", description="name of the backbone or of the head")
    settings: dict[str, Any] = Field(description="its settings; incomplete in bundles of version 1")
    granularity: Literal["frame", "clip"] = Field("frame", description="what is looked at as one: a frame, or a clip")
    input: TensorSpec
    output: TensorSpec
    flops: int | None = Field(None, description="floating-point operations for one clip; a multiply-add is two")
    parameters: int | None = Field(None, description="numbers that its weights are")
    weights: str = Field("", description="source of a backbone's weights, and which blocks were fine-tuned")
    weights_sha256: str = Field("", description="of a backbone's weights, or of the run's file of the head")
    variant: str = Field(
        "",
        pattern=r"^[a-z0-9]*$",
        description="in the name of a backbone's model on Triton, where the weights are those of the run alone",
    )

    @property
    def dim(self) -> int:
        """Length of the output's last axis: features of a frame, or classes."""
        return int(self.output.shape[-1])

    @property
    def model(self) -> str:
        """Name of its model on Triton."""
        return stage_model(self.id, self.architecture, self.variant)


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
    stages: tuple[StageInfo, ...]
    metrics: dict[str, Any]
    artifacts: tuple[Artifact, ...]
    source: str = Field("", description="name of the data set")
    end_to_end: dict[str, HeldOut] = Field(default_factory=dict, description="both stages in a format, by its name")
    documents: dict[str, str] = Field(default_factory=dict, description="SHA-256 of further files by path")

    _digest: str = PrivateAttr("")

    @property
    def digest(self) -> str:
        """SHA-256 of the manifest in canonical JSON: two bundles with the same one are the same.

        A manifest of version 1 keeps the digest that it had then, which repositories hold.
        """
        return self._digest or canonical_digest(self)

    def with_digest(self, digest: str) -> Manifest:
        """Set the digest that a manifest had in the version that it was written in."""
        self._digest = digest
        return self

    @property
    def extractor(self) -> StageInfo:
        """The stage that turns frames into features."""
        return next(stage for stage in self.stages if stage.id == "extractor")

    @property
    def classifier(self) -> StageInfo:
        """The stage that turns features into probabilities."""
        return next(stage for stage in self.stages if stage.id == "classifier")

    @property
    def stream(self) -> Artifact | None:
        """The streaming form of a causal extractor; ``None`` where there is none."""
        return next((artifact for artifact in self.artifacts if artifact.stage == "stream"), None)

    @property
    def feature_shape(self) -> tuple[int, int]:
        """Shape of the features of one clip, (t, F)."""
        steps, dim = self.classifier.input.shape[1:]
        return int(steps), int(dim)

    @property
    def past_frames(self) -> int | None:
        """How many frames before a frame its features depend on; see `vdeploy.models.shift_settings.past_frames`."""
        return past_frames(self.extractor.granularity, self.extractor.settings, self.clip_spec.frames)

    @property
    def clip_spec(self) -> ClipSpec:
        """The frames that both stages expect."""
        return ClipSpec.from_dict(self.clip)

    @property
    def score_histogram(self) -> ScoreHistogram | None:
        """Scores of the clips that the run did not learn from; ``None`` in bundles without such clips, or with few."""
        held_out = max(self.end_to_end.values(), key=lambda one: one.clips, default=None)
        return None if held_out is None else ScoreHistogram.of(held_out.reference)

    @property
    def formats(self) -> tuple[str, ...]:
        """Formats that hold both stages, in the order of the artifacts."""
        held = {(artifact.stage, artifact.format) for artifact in self.artifacts}
        names = dict.fromkeys(artifact.format for artifact in self.artifacts)
        return tuple(name for name in names if {("extractor", name), ("classifier", name)} <= held)


def canonical_digest(model: BaseModel) -> str:
    """Return the SHA-256 of a model in canonical JSON."""
    canonical = json.dumps(model.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
