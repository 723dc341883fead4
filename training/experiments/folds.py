"""Folds of a data set, with all clips of a source on the same side, and the features that they take."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from training.engine.trainer import FeatureSplit
from training.pipeline import extract_source
from training.recipe import Recipe
from vdeploy.core.errors import DatasetError
from vdeploy.core.lazy_imports import require
from vdeploy.dataset import Dataset
from vdeploy.models.trunk import Trunk
from vdeploy.models.weights.find import Weights

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Fold", "content_of", "extract_folds", "fold_count", "grouped_folds", "sources_of"]

FOLDS = 5
FEWEST_FOLDS = 3


@dataclasses.dataclass(frozen=True)
class Fold:
    """Clips of one fold by number, ascending; all clips of a group are in the same part.

    Attributes:
        train: What is learned from.
        valid: What chooses the epoch.
        judged: What is judged, and has no other part in the training.
    """

    train: npt.NDArray[np.int64]
    valid: npt.NDArray[np.int64]
    judged: npt.NDArray[np.int64]


def grouped_folds(labels: npt.NDArray[np.int64], groups: npt.NDArray[np.str_], folds: int, seed: int) -> Iterator[Fold]:
    """Split clips into folds by group, classes spread as evenly as the groups allow.

    Of the clips that are not judged, one part in ``folds``, again by group, chooses the epoch.

    Args:
        labels: ``int64[N]``.
        groups: The source of each clip.
        folds: How many.
        seed: Which groups come together.

    Raises:
        DatasetError: There are fewer sources than folds need, or a part would hold one class only.
        MissingExtraError: scikit-learn is not installed.
    """
    selection: Any = require("sklearn.model_selection", extra="train", purpose="cross-validation")
    sources = len(np.unique(groups))
    if sources < folds + 1:
        raise DatasetError(
            f"{sources} sources are too few for {folds} folds", "give fewer folds, or clips of more sources"
        )
    splitter = selection.StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    for rest, judged in splitter.split(labels, labels, groups):
        inner = selection.StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
        train, valid = next(inner.split(rest, labels[rest], groups[rest]))
        fold = Fold(rest[train], rest[valid], judged)
        if len(np.unique(labels[fold.train])) < 2 or not len(fold.valid):
            raise DatasetError("a fold has clips of one class only to learn from", "give fewer folds")
        yield fold


def sources_of(dataset: Dataset) -> npt.NDArray[np.str_]:
    """The source of each clip; a clip without a group is its own, together with byte-identical ones."""
    return np.array([f"group {clip.group}" if clip.group else clip.sha256 for clip in dataset.clips])


def content_of(dataset: Dataset) -> list[tuple[str, int, str]]:
    """What results depend on of each clip: the hash of its content, its label and its group."""
    return [(clip.sha256, clip.label, clip.group) for clip in dataset.clips]


def fold_count(dataset: Dataset, otherwise: str = "") -> int:
    """How many folds the sources of a data set allow, at most 5.

    Args:
        dataset: The clips.
        otherwise: What helps beside clips of more sources, such as ``", or a larger --budget"``.

    Raises:
        DatasetError: There are too few sources.
    """
    sources = len(np.unique(sources_of(dataset)))
    folds = min(FOLDS, sources - 1)
    if folds < FEWEST_FOLDS:
        raise DatasetError(
            f"{sources} sources in {dataset.root} are too few to judge a model on others than it learns from",
            f"give clips of at least {FEWEST_FOLDS + 1} sources{otherwise}",
        )
    return folds


def extract_folds(
    dataset: Dataset,
    recipe: Recipe,
    weights: Weights,
    store_root: Path,
    trunk: Trunk | None = None,
    *,
    strict: bool = False,
) -> tuple[Dataset, FeatureSplit]:
    """Extract what `cross_validate` takes: all views of all clips, as each clip is learned from in other folds.

    Args:
        dataset: The clips; their splits play no part.
        recipe: Its clip and backbone sections apply.
        weights: The backbone's weights.
        store_root: Folder of all feature stores.
        trunk: Take its activations instead of the backbone's features; they stay on the disk.
        strict: Refuse clips that cannot be read instead of leaving them out.

    Returns:
        The clips that could be read; and their features, labels and sources.

    Raises:
        UserError: No clip can be read, or the store cannot be used.
    """
    clips = tuple(dataclasses.replace(clip, split="train") for clip in dataset.clips)
    unsplit = dataclasses.replace(dataset, clips=clips)
    extraction = extract_source(unsplit, recipe, weights, store_root, strict=strict, trunk=trunk)
    readable, features = extraction.dataset, extraction.to_train_on()
    labels = np.array([clip.label for clip in readable.clips], np.int64)
    return readable, FeatureSplit(features[:] if trunk is None else features, labels, sources_of(readable))
