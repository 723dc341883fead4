"""Features of a study's data set, extracted once."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np

from training.engine.trainer import FeatureSplit
from training.methods.distillation.lesson import Lesson, prepare_lesson
from training.methods.fine_tuning import trunk_of
from training.methods.self_supervised.trunk import trunk_sha256
from training.pipeline import extract_source, scan_source
from training.recipe import Recipe
from vdeploy.core.errors import RecipeError
from vdeploy.dataset import Dataset
from vdeploy.features.extraction import Extraction, feature_key
from vdeploy.models.trunk import Trunk

__all__ = ["StudyData", "load_study_data"]


@dataclasses.dataclass(frozen=True)
class StudyData:
    """Features of a data set by split.

    Attributes:
        train: Training split.
        valid: Validation split, which chooses the best epoch.
        judged: Split that the figures are measured on.
        judged_split: Its name: ``"test"``, or ``"valid"`` if there is no test split. Figures on the validation split
            are optimistic, because it also chooses the epoch.
        digest: Hash of all inputs that the features depend on.
        trunk: What the features are activations of, instead of features of the whole backbone.
        activations: The same clips as activations, where the recipe trains blocks of the backbone.
    """

    train: FeatureSplit
    valid: FeatureSplit
    judged: FeatureSplit
    judged_split: str
    digest: str
    trunk: Trunk | None = None
    activations: StudyData | None = None

    def seen_by(self, recipe: Recipe) -> StudyData:
        """What a recipe is trained on: features, or activations where it trains blocks of the backbone."""
        return self.activations if recipe.fine_tune.blocks and self.activations else self


def load_study_data(source: Path | Dataset, recipe: Recipe, store_root: Path, *, strict: bool = False) -> StudyData:
    """Scans a data set and reads its features, extracting those that the store lacks.

    Args:
        source: Folder or CSV of labelled clips, or what a scan of it with this recipe gave.
        recipe: Its clip, backbone and data sections apply.
        store_root: Folder of all feature stores.
        strict: Refuse clips that cannot be read instead of leaving them out.

    Raises:
        UserError: The data, the weights or the store cannot be used.
    """
    dataset = source if isinstance(source, Dataset) else scan_source(source, recipe)
    backbone = recipe.make_backbone()
    weights = backbone.find_weights()
    extraction = extract_source(dataset, recipe, weights, store_root, strict=strict)
    clips = [(clip.sha256, clip.label, clip.split) for clip in extraction.dataset.clips]
    mirrored = ["mirrored"] if recipe.clip.mirrored else []  # absent where it is off, so that older results hold
    content = json.dumps([feature_key(recipe.clip_spec, backbone, weights).digest, recipe.clip.views, clips, *mirrored])
    if recipe.distill.unlabelled:
        raise RecipeError("a study learns from labelled clips alone", 'set distill.unlabelled = ""')
    lesson = prepare_lesson(recipe, extraction.dataset, weights, store_root)
    digest = hashlib.sha256((content + (lesson.digest if lesson else "") + trunk_sha256(recipe)).encode()).hexdigest()
    data = _study_data(extraction, digest, lesson)
    if (trunk := trunk_of(recipe, weights)) is None:
        return data
    activations = extract_source(extraction.dataset, recipe, weights, store_root, trunk=trunk)
    return dataclasses.replace(
        data, activations=dataclasses.replace(_study_data(activations, digest, lesson), trunk=trunk)
    )


def _study_data(extraction: Extraction, digest: str, lesson: Lesson | None) -> StudyData:
    judged = "test" if extraction.dataset.of("test") else "valid"
    splits = {split: _split(extraction, split) for split in ("train", "valid", judged)}
    return StudyData(
        train=dataclasses.replace(splits["train"], soft=None if lesson is None else lesson.soft),
        valid=splits["valid"],
        judged=splits[judged],
        judged_split=judged,
        digest=digest,
    )


def _split(extraction: Extraction, split: str) -> FeatureSplit:
    labels = np.array([clip.label for clip in extraction.dataset.of(split)], np.int64)
    features = extraction.to_train_on() if split == "train" else extraction.of(split)
    return FeatureSplit(features, labels, np.array([clip.group for clip in extraction.dataset.of(split)], np.str_))
