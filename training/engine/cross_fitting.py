"""Cross-fitting: every clip is judged by a logistic regression that has not learned from the clip's source."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from training.engine.epoch_plan import FeatureSplit
from training.engine.logistic_regression import StandardizedBasis
from vdeploy.core.errors import DatasetError
from vdeploy.core.lazy_imports import load_keras, require
from vdeploy.video.views import usual_view

if TYPE_CHECKING:
    import keras
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

__all__ = ["PENALTIES", "CrossFit", "WeighedClips", "clip_statistics", "cross_fit"]

PENALTIES = tuple(float(value) for value in np.logspace(-3, 3, 13))
"""Penalties that are compared: lambda of ``mean loss + lambda / 2 |w|^2`` with standardised statistics."""

_FOLDS = 5
_REPETITIONS = 3
_BATCH = 256


@dataclasses.dataclass(frozen=True)
class WeighedClips:
    """What a logistic regression learns from.

    Attributes:
        statistics: ``float64[N, V, D]``; V views of each clip, which weigh less each.
        labels: 0 or 1, ``int64[N]``.
        sources: The number of each clip's source, ``int64[N]``.
        targets: Probabilities of violence to learn, ``float64[N]``.
        weights: ``float64[N]``.
    """

    statistics: Floats
    labels: npt.NDArray[np.int64]
    sources: npt.NDArray[np.int64]
    targets: Floats
    weights: Floats

    def basis(self, clips: npt.NDArray[np.int64] | slice = slice(None)) -> StandardizedBasis:
        """Some of the clips, ready to be fitted with any penalty."""
        statistics = self.statistics[clips]
        views = statistics.shape[1]
        x = statistics.reshape(len(statistics) * views, -1)
        return StandardizedBasis(x, np.repeat(self.targets[clips], views), np.repeat(self.weights[clips], views))


@dataclasses.dataclass(frozen=True)
class CrossFit:
    """How well each penalty does on held-out sources.

    Attributes:
        penalties: P penalties.
        losses: Their log loss, ``float64[P]``.
        probabilities: Of violence, each from classifiers that have learned from other sources, ``float64[P, N]``.
    """

    penalties: tuple[float, ...]
    losses: Floats
    probabilities: Floats

    @property
    def best(self) -> int:
        """Number of the penalty with the lowest log loss."""
        return int(np.argmin(self.losses))


def clip_statistics(model: keras.Model, split: FeatureSplit) -> Floats:
    """What the layer ``logits`` of a head reads, ``float64[N, V, D]``.

    Args:
        model: A head's model.
        split: The clips.
    """
    keras: Any = load_keras()
    body = keras.Model(model.input, model.get_layer("logits").input)
    features, count = split.features, len(split.labels)
    parts = []
    for start in range(0, count, _BATCH):
        part = np.asarray(features[start : start + _BATCH], np.float32)
        flat = body(part.reshape(-1, *part.shape[-2:]), training=False).numpy()
        parts.append(flat.reshape(len(part), split.views, -1))
    return np.concatenate(parts).astype(np.float64)


def cross_fit(clips: WeighedClips, penalties: Sequence[float], seed: int, otherwise: str) -> CrossFit:
    """Judge every clip by classifiers that have learned from other sources, three times with other folds.

    Args:
        clips: What to learn from, and to judge by the usual view.
        penalties: P penalties.
        seed: Which sources come together.
        otherwise: What to set in the recipe where the clips do not allow it, for the message.

    Returns:
        Log losses and probabilities; the logits are averaged over the repetitions.

    Raises:
        DatasetError: There are too few clips or sources of a class.
    """
    labels, usual = clips.labels, usual_view(clips.statistics.shape[1])
    logits = np.zeros((len(penalties), len(labels)))
    losses = np.zeros(len(penalties))
    for repetition in range(_REPETITIONS):
        for train, held_out in _folds(clips, seed * _REPETITIONS + repetition, otherwise):
            basis = clips.basis(train)
            for index, penalty in enumerate(penalties):
                fit = basis.fit(penalty)
                logit = clips.statistics[held_out, usual] @ fit.weights + fit.bias
                logits[index, held_out] += logit / _REPETITIONS
                losses[index] += np.logaddexp(0, np.where(labels[held_out] == 1, -logit, logit)).sum()
    probabilities = np.exp(-np.logaddexp(0, -logits))
    return CrossFit(tuple(penalties), losses / (_REPETITIONS * len(labels)), probabilities)


def _folds(
    clips: WeighedClips, seed: int, otherwise: str
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Parts to learn from and to judge; all clips of a source are in the same part."""
    selection: Any = require("sklearn.model_selection", extra="train", purpose="cross-validation")
    labels, sources = clips.labels, clips.sources
    folds = min(_FOLDS, len(np.unique(sources)), int(np.bincount(labels).min()))
    if folds < 2:
        raise DatasetError(
            "the training split is too small for cross-validation",
            f"add clips or sources of both classes, or set {otherwise}",
        )
    splitter = selection.StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    for train, held_out in splitter.split(labels, labels, sources):
        if len(np.unique(labels[train])) == 2:
            yield train, held_out
