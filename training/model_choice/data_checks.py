"""Properties of a data set that make figures on it look better than they are."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from training.experiments.cross_validation import CrossValidation
from training.experiments.folds import grouped_folds, sources_of
from training.model_choice.near_duplicates import alike_across_sources, hash_clips
from vdeploy.core.errors import ClipError
from vdeploy.core.lazy_imports import require
from vdeploy.core.progress import track
from vdeploy.dataset import Dataset
from vdeploy.video.file_facts import read_facts

__all__ = ["Finding", "check_duplicates", "check_metadata", "check_sources"]

ENOUGH_SOURCES = 20
"""With fewer, an interval over sources is wider than most differences between models."""

METADATA = ("duration", "frame rate", "width", "height", "bit rate")

_NAMED = 3


@dataclasses.dataclass(frozen=True)
class Finding:
    """One property, in words.

    Attributes:
        code: ``"groups missing"``, ``"few sources"``, ``"look-alikes"`` or ``"metadata"``.
        text: What was found and what it does to the figures.
    """

    code: str
    text: str


def check_sources(dataset: Dataset) -> list[Finding]:
    """Whether the data set says which clips belong together, and whether there are enough sources to compare models."""
    found = []
    without = sum(not clip.group for clip in dataset.clips)
    if without:
        found.append(
            Finding(
                "groups missing",
                f"{without} of {len(dataset.clips)} clips name no source, so each counts as its own: where clips were "
                "cut from one video, figures are too high. Give a CSV with a group column",
            )
        )
    sources = len(np.unique(sources_of(dataset)))
    if sources < ENOUGH_SOURCES:
        found.append(
            Finding(
                "few sources",
                f"{sources} sources are too few to tell models apart that differ by less than their intervals. "
                "Add clips of other cameras and places",
            )
        )
    return found


def check_duplicates(dataset: Dataset) -> list[Finding]:
    """Whether clips of different sources look alike, so that a model is judged on what it has learned from."""
    paths = [dataset.absolute(clip) for clip in dataset.clips]
    with track("compare clips", len(paths), "clips") as step:
        hashes = []
        for value in hash_clips(paths):
            hashes.append(value)
            step.advance()
    known = [index for index, value in enumerate(hashes) if value is not None]
    if not known:
        return []
    pairs = [
        (known[first], known[second])
        for first, second in alike_across_sources(
            np.array([hashes[index] for index in known]), sources_of(dataset)[known]
        )
    ]
    if not pairs:
        return []
    named = "; ".join(f"{dataset.clips[one].path} and {dataset.clips[other].path}" for one, other in pairs[:_NAMED])
    more = f"; and {len(pairs) - _NAMED} more" if len(pairs) > _NAMED else ""
    return [
        Finding(
            "look-alikes",
            f"{len(pairs)} pairs of clips of different sources look alike ({named}{more}): figures are too high if "
            "they show the same scene. Give them the same group",
        )
    ]


def check_metadata(dataset: Dataset, *, folds: int, seeds: int) -> tuple[CrossValidation | None, list[Finding]]:
    """How well duration, frame rate, size and bit rate alone predict the label of clips of other sources.

    A random forest (Breiman 2001) on the logarithms of what the headers say, judged as models are.

    Returns:
        Its probabilities, ``None`` if a header cannot be read; and what to know about them.

    Raises:
        DatasetError: There are too few sources.
        MissingExtraError: scikit-learn is not installed.
    """
    try:
        paths = [dataset.absolute(clip) for clip in dataset.clips]
        facts = [dataclasses.astuple(read_facts(path, paths)) for path in paths]
    except (ClipError, OSError):
        return None, []
    ensemble: Any = require("sklearn.ensemble", extra="train", purpose="checking the data")
    values = np.log1p(np.array(facts, np.float64))
    labels = np.array([clip.label for clip in dataset.clips], np.int64)
    sources = sources_of(dataset)
    probabilities = np.empty((seeds, len(labels)))
    for seed in range(seeds):
        for fold in grouped_folds(labels, sources, folds, seed):
            learned = np.concatenate([fold.train, fold.valid])
            forest = ensemble.RandomForestClassifier(200, min_samples_leaf=3, random_state=seed)
            forest.fit(values[learned], labels[learned])
            probabilities[seed, fold.judged] = forest.predict_proba(values[fold.judged])[:, 1]
    result = CrossValidation(labels, sources, probabilities)
    auc = result.roc_auc()
    if auc.low <= 0.5:
        return result, []
    return result, [
        Finding(
            "metadata",
            f"{', '.join(METADATA[:-1])} and {METADATA[-1]} alone predict the label with an AUC of {auc.value:.2f} "
            f"({auc.low:.2f} to {auc.high:.2f}): a model may learn how a clip was recorded instead of what it shows. "
            "Bring both classes to the same length, rate and size",
        )
    ]
