"""The run folder: what a training leaves behind, and how everything after it reads that."""

from __future__ import annotations

import dataclasses
import json
import platform
import zipfile
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vdeploy.artifacts.run_manifest import RUN_SCHEMA_VERSION, RunInfo, RunStage
from vdeploy.artifacts.run_versions import upgraded
from vdeploy.core.errors import RecipeError, RunError
from vdeploy.core.files import sha256_of, write_json, write_text
from vdeploy.core.lazy_imports import load_keras
from vdeploy.core.locks import settle_folder
from vdeploy.models.base import Backbone, Head
from vdeploy.models.extractor import FeatureExtractor
from vdeploy.models.registry import backbone_of, head_of
from vdeploy.models.weights.find import Weights
from vdeploy.video.clips import ClipSpec

if TYPE_CHECKING:
    import keras

__all__ = [
    "BACKBONE",
    "CLASSIFIER",
    "CLIPS",
    "MANIFEST",
    "RECIPE",
    "SUSPICIOUS_LABELS",
    "Run",
    "toolchain",
    "write_run",
]

MANIFEST = "run.json"
CLASSIFIER = "classifier.keras"
BACKBONE = "backbone.npz"
"""The backbone's weights, where they are those of the run alone; see `vdeploy.models.weights.fine_tuned`."""
RECIPE = "recipe.toml"
CLIPS = "clips.csv"
METRICS = "metrics.json"
REPORT = "report.html"
SUSPICIOUS_LABELS = "suspicious_labels.json"

_PACKAGES = ("tensorflow", "tensorflow-cpu", "keras", "numpy", "opencv-python-headless", "scikit-learn")


def toolchain() -> dict[str, str]:
    """Versions of Python and of the packages that a run depends on."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished run on disk.

    Attributes:
        root: Its folder.
        info: The manifest.
    """

    root: Path
    info: RunInfo

    @classmethod
    def load(cls, root: Path) -> Run:
        """Opens a run folder and checks that what it holds is what was trained.

        Raises:
            RunError: The folder is missing, unfinished, foreign or damaged.
        """
        settle_folder(root)
        file = root / MANIFEST
        if not file.is_file():
            partial = root.with_name(f"{root.name}.partial")
            hint = (
                "finish it: run the same vdeploy train again"
                if partial.is_dir()
                else "make one with: vdeploy train DATA"
            )
            raise RunError(f"{root} is no finished run: it holds no {MANIFEST}", hint)
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
            version = str(values.pop("schema_version"))
            if version.partition(".")[0] == "1":
                values = upgraded(values, root / RECIPE)
            elif version.partition(".")[0] != RUN_SCHEMA_VERSION.partition(".")[0]:
                raise RunError(
                    f"{file} has schema version {version}, not {RUN_SCHEMA_VERSION}", "use the vdeploy that wrote it"
                )
            info = RunInfo.from_dict(values)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecipeError, RecursionError) as error:
            raise RunError(f"{root} is damaged ({error})", "train again") from error
        _check_file(root / CLASSIFIER, info.stage("classifier"))
        if info.stage("extractor").file:
            _check_file(root / BACKBONE, info.stage("extractor"))
        return cls(root, info)

    @property
    def spec(self) -> ClipSpec:
        """How a video becomes the frames of a clip."""
        return ClipSpec.from_dict(dict(self.info.clip))

    @property
    def backbone(self) -> Backbone[Any]:
        """The backbone, with its settings."""
        stage = self.info.stage("extractor")
        return backbone_of({"name": stage.architecture, **stage.settings})

    @property
    def head(self) -> Head[Any]:
        """The head, with its settings."""
        stage = self.info.stage("classifier")
        return head_of({"name": stage.architecture, **stage.settings})

    @property
    def feature_shape(self) -> tuple[int, int]:
        """Shape of a clip's features, (t, F)."""
        return self.backbone.feature_shape(self.spec.frames)

    @property
    def dim(self) -> int:
        """Features of a frame, F."""
        return self.feature_shape[1]

    @property
    def metrics(self) -> dict[str, Any]:
        """What `metrics.json` holds."""
        values: dict[str, Any] = json.loads((self.root / METRICS).read_text(encoding="utf-8"))
        return values

    @property
    def suspicious_labels(self) -> list[dict[str, Any]] | None:
        """Training clips whose labels are probably wrong, the worst first; ``None`` if the training did not look."""
        file = self.root / SUSPICIOUS_LABELS
        if not file.is_file():
            return None
        clips: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))
        return clips

    def classifier(self) -> keras.Model:
        """Load the trained classifier: ``features float32[B, t, F]`` to ``probabilities float32[B, 2]``.

        Raises:
            RunError: Keras refuses the file, for example because a layer in it would run code.
        """
        file = self.root / CLASSIFIER
        try:
            return load_keras().models.load_model(file, compile=False)
        except (ValueError, TypeError, OSError, KeyError) as error:
            if (version := _newer_keras(file)) is not None:
                raise RunError(
                    f"{file} was saved by Keras {version}, and {load_keras().__version__} cannot read it",
                    f"install Keras {version} or later; what Python 3.10 can have may be older",
                ) from error
            reason = " ".join(str(error).split())[:200]
            raise RunError(f"{file} cannot be loaded ({reason})", "train again, and do not trust this run") from error

    def weights(self, source: str | None = None) -> Weights:
        """Find the weights of the backbone that the run was trained with.

        Args:
            source: Where to look; the recipe's place if left out.

        Raises:
            RunError: What is there now is not what the run was trained with, or the run holds them itself.
        """
        stage = self.info.stage("extractor")
        if stage.file:
            if source is not None:
                raise RunError(f"{self.root} holds its backbone itself", "leave --weights out")
            return Weights(str(stage.settings["weights"]), self.root / BACKBONE, stage.sha256)
        weights = self.backbone.find_weights(source)
        if weights.sha256 != self.info.weights_sha256:
            raise RunError(
                f"the {self.backbone.title} weights {weights.path} are not those that {self.root} was trained with",
                "give them: --weights PATH",
            )
        return weights

    def extractor(self, weights: Weights | None = None) -> FeatureExtractor:
        """Build the backbone as the run used it."""
        return FeatureExtractor(self.backbone, weights or self.weights(), self.spec)


def _newer_keras(file: Path) -> str | None:
    """The version of Keras that saved a model, if it is newer than this one."""
    try:
        with zipfile.ZipFile(file) as archive:
            version = str(json.loads(archive.read("metadata.json"))["keras_version"])
        saved, here = ([int(part) for part in text.split(".")[:2]] for text in (version, load_keras().__version__))
    except (OSError, ValueError, TypeError, KeyError, zipfile.BadZipFile):
        return None
    return version if saved > here else None


def _check_file(file: Path, stage: RunStage) -> None:
    if not file.is_file():
        raise RunError(f"{file} is missing", "train again")
    if sha256_of(file) != stage.sha256:
        raise RunError(f"{file} is not the {stage.id} of this run: its SHA-256 differs from {MANIFEST}", "train again")


def write_run(root: Path, recipe: str, info: RunInfo, metrics: dict[str, Any]) -> None:
    """Write the recipe's text, metrics and, last, the manifest."""
    write_text(root / RECIPE, recipe)
    write_json(root / METRICS, metrics)
    write_json(root / MANIFEST, {"schema_version": RUN_SCHEMA_VERSION, **dataclasses.asdict(info)})
