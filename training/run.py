"""The run folder: what a training leaves behind, and how everything after it reads that."""

from __future__ import annotations

import dataclasses
import json
import platform
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.recipe import Recipe, load_recipe, recipe_toml
from vdeploy.core.errors import RecipeError, RunError
from vdeploy.core.files import sha256_of, write_json, write_text
from vdeploy.core.lazy_imports import load_keras
from vdeploy.models.backbones.vgg19.model import DIMENSIONS, FeatureExtractor
from vdeploy.models.weights import Weights, find_weights

if TYPE_CHECKING:
    import keras

__all__ = ["MANIFEST", "Run", "RunInfo", "toolchain", "write_run"]

MANIFEST = "run.json"
SCHEMA_VERSION = "1.1"
CLASSIFIER = "classifier.keras"
RECIPE = "recipe.toml"
CLIPS = "clips.csv"
METRICS = "metrics.json"
REPORT = "report.html"

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
class RunInfo:
    """What `run.json` holds beside the schema version.

    Attributes:
        name: Name of the run.
        created: When it was finished, ISO 8601 with time zone.
        source: The data set, as an absolute path.
        classes: Names of the classes in the data set: non-violent, violent.
        weights_sha256: Hash of the VGG19 weights.
        classifier_sha256: Hash of ``classifier.keras``.
        threshold: Probability from which a clip counts as violent.
        temperature: What the logits were divided by after training; it is already inside the classifier.
        bias: What the logit of the violent class was raised by before that; it is inside the classifier as well.
        best_epoch: The epoch that was kept.
        seconds: Duration of the parts of the run.
        toolchain: Versions.
        clip_seconds: Median duration of the training clips; ``None`` where it is not known, as in runs of version 1.0.
    """

    name: str
    created: str
    source: str
    classes: tuple[str, str]
    weights_sha256: str
    classifier_sha256: str
    threshold: float
    temperature: float
    bias: float
    best_epoch: int
    seconds: dict[str, float]
    toolchain: dict[str, str]
    clip_seconds: float | None = None


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished run on disk.

    Attributes:
        root: Its folder.
        recipe: The resolved recipe.
        info: The manifest.
    """

    root: Path
    recipe: Recipe
    info: RunInfo

    @classmethod
    def load(cls, root: Path) -> Run:
        """Opens a run folder and checks that the classifier is the one that was trained.

        Raises:
            RunError: The folder is missing, unfinished, foreign or damaged.
        """
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
            if version.split(".", maxsplit=1)[0] != SCHEMA_VERSION.split(".", maxsplit=1)[0]:
                raise RunError(
                    f"{file} has schema version {version}, not {SCHEMA_VERSION}", "use the vdeploy that wrote it"
                )
            info = RunInfo(**{**values, "classes": tuple(values["classes"])})
            recipe = load_recipe(str(root / RECIPE))
        except (OSError, ValueError, KeyError, TypeError, RecipeError) as error:
            raise RunError(f"{root} is damaged ({error})", "train again") from error
        classifier = root / CLASSIFIER
        if not classifier.is_file():
            raise RunError(f"{classifier} is missing", "train again")
        if sha256_of(classifier) != info.classifier_sha256:
            raise RunError(
                f"{classifier} is not the classifier of this run: its SHA-256 differs from {MANIFEST}", "train again"
            )
        return cls(root, recipe, info)

    @property
    def dim(self) -> int:
        """Features per frame, F."""
        return DIMENSIONS[self.recipe.features.layer]

    @property
    def metrics(self) -> dict[str, Any]:
        """What `metrics.json` holds."""
        values: dict[str, Any] = json.loads((self.root / METRICS).read_text(encoding="utf-8"))
        return values

    def classifier(self) -> keras.Model:
        """The trained classifier: ``features float32[B, T, F]`` -> ``probabilities float32[B, 2]``."""
        return load_keras().models.load_model(self.root / CLASSIFIER, compile=False)

    def weights(self, source: str | None = None) -> Weights:
        """The VGG19 weights that the run was trained with.

        Args:
            source: Where to look; the recipe's place if left out.

        Raises:
            RunError: What is there now is not what the run was trained with.
        """
        weights = find_weights(source or self.recipe.features.weights, self.recipe.features.layer)
        if weights.sha256 != self.info.weights_sha256:
            raise RunError(
                f"the VGG19 weights {weights.path} are not those that {self.root} was trained with",
                "give them: --weights PATH",
            )
        return weights

    def extractor(self, weights: Weights | None = None) -> FeatureExtractor:
        """VGG19 as the run used it."""
        section = self.recipe.features
        return FeatureExtractor(section.layer, weights or self.weights(), size=self.recipe.clip.size)


def write_run(root: Path, recipe: Recipe, info: RunInfo, metrics: dict[str, Any]) -> None:
    """Writes recipe, metrics and, last, the manifest."""
    write_text(root / RECIPE, recipe_toml(recipe))
    write_json(root / METRICS, metrics)
    write_json(root / MANIFEST, {"schema_version": SCHEMA_VERSION, **dataclasses.asdict(info)})
