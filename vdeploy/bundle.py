"""The bundle: what was exported from a run, what was found in it, and that it still is what the manifest says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from training.clips import ClipSpec
from training.files import sha256_of
from training.layers import Layer
from vdeploy.errors import BundleError

__all__ = [
    "CLASSES",
    "MANIFEST",
    "SCHEMA_VERSION",
    "Artifact",
    "Bundle",
    "Extractor",
    "Manifest",
    "Parity",
    "Stage",
    "TensorSpec",
]

MANIFEST = "bundle.json"
SCHEMA_VERSION = "1.0"
CLASSES = ("non-violent", "violent")
"""Names of the two probabilities, in order."""

Stage = Literal["extractor", "classifier"]


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
    tolerance: float = Field(description="limit that was applied to max_rel")


class Artifact(_Model):
    """One exported file."""

    stage: Stage
    format: str
    precision: str = Field(description="precision found in the file")
    path: str = Field(description="path inside the bundle, POSIX")
    sha256: str
    bytes: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    parity: Parity
    toolchain: dict[str, str]


class Extractor(_Model):
    """Which VGG19 the features come from."""

    layer: Layer
    dim: int
    weights: str
    weights_sha256: str


class Manifest(_Model):
    """What `bundle.json` holds."""

    schema_version: str
    vdeploy_version: str
    created: str
    run: str
    classes: tuple[str, str]
    threshold: float = Field(ge=0, le=1)
    temperature: float = Field(gt=0)
    clip: dict[str, Any]
    extractor: Extractor
    metrics: dict[str, Any]
    artifacts: tuple[Artifact, ...]

    @property
    def clip_spec(self) -> ClipSpec:
        """The frames that both stages expect."""
        return ClipSpec.from_dict(self.clip)


class Bundle:
    """A verified bundle on disk.

    Args:
        root: Its folder.

    Attributes:
        root: Its folder.
        manifest: What it holds.

    Raises:
        BundleError: The folder is no bundle, is of a newer major version, or a file is not what the manifest says.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.manifest = self._read()
        self._verify()

    def artifact(self, stage: Stage, format_name: str) -> Artifact:
        """Finds the artifact of a stage in a format.

        Raises:
            BundleError: The bundle does not hold it.
        """
        for artifact in self.manifest.artifacts:
            if artifact.stage == stage and artifact.format == format_name:
                return artifact
        held = sorted({artifact.format for artifact in self.manifest.artifacts if artifact.stage == stage})
        raise BundleError(
            f"{self.root} holds no {stage} in {format_name}, only in {', '.join(held) or 'no format'}",
            f"export it: vdeploy export {self.manifest.run} --format {format_name}",
        )

    def path(self, artifact: Artifact) -> Path:
        """The file of an artifact."""
        return self.root / artifact.path

    def _read(self) -> Manifest:
        file = self.root / MANIFEST
        if not file.is_file():
            raise BundleError(f"{self.root} is no bundle: it holds no {MANIFEST}", "make one with: vdeploy export RUN")
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
            version = str(values["schema_version"])
        except (ValueError, KeyError, TypeError) as error:
            raise BundleError(f"{file} cannot be read ({error})", "export the run again") from error
        if _major(version) != _major(SCHEMA_VERSION):
            raise BundleError(
                f"{file} has schema version {version}, this vdeploy reads {SCHEMA_VERSION}",
                "use the vdeploy that wrote it, or export the run again",
            )
        try:
            return Manifest.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise BundleError(f"{file}: {where}: {first['msg']}", "export the run again") from error

    def _verify(self) -> None:
        for artifact in self.manifest.artifacts:
            file = self.path(artifact)
            if not file.resolve().is_relative_to(self.root.resolve()):
                outside = f"{self.root / MANIFEST} names a file outside the bundle: {artifact.path}"
                raise BundleError(outside, "do not trust this bundle")
            if not file.is_file():
                raise BundleError(f"{file} is missing from the bundle", "export the run again")
            if sha256_of(file) != artifact.sha256:
                raise BundleError(
                    f"{file} is not the file that was exported: its SHA-256 differs from {MANIFEST}",
                    "export the run again",
                )


def _major(version: str) -> str:
    return version.partition(".")[0]
