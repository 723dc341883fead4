"""Exact training of a linear classifier: logistic regression with an L2 penalty that cross-validation chooses.

A head whose only weights are those of its layer ``logits`` is a logistic regression on what its body computes, a convex
problem. Its solution needs no learning rate, no epochs and no validation split to stop at, so that all of the training
split is learned from. With few clips that is worth several points of accuracy.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from training.engine.devices import is_chief
from training.engine.epoch_plan import FeatureSplit, check_splits
from training.engine.history import EpochRecord, history_csv
from training.engine.losses import balanced_weights, class_weights
from training.recipe import Recipe
from vdeploy.core.errors import DatasetError, RecipeError
from vdeploy.core.files import write_text
from vdeploy.core.lazy_imports import load_keras, require
from vdeploy.core.progress import say
from vdeploy.evaluation.calibration import log_loss
from vdeploy.features.prediction import predict

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

__all__ = ["PENALTIES", "LinearFit", "LogisticTrainer", "fit_logistic"]

PENALTIES = tuple(float(value) for value in np.logspace(-3, 3, 13))
"""Penalties that are compared: lambda of ``mean loss + lambda / 2 |w|^2`` with standardised statistics."""

_FOLDS = 5
_REPETITIONS = 3
_BATCH = 256
_EPSILON = 1e-6


@dataclasses.dataclass(frozen=True)
class LinearFit:
    """A linear classifier: the logit of violence is ``x @ weights + bias``.

    Attributes:
        weights: ``float64[D]``.
        bias: The intercept.
    """

    weights: Floats
    bias: float

    def probabilities(self, x: Floats) -> Floats:
        """Probabilities of violence, ``float64[N]``, of statistics ``[N, D]``."""
        logits = x @ self.weights + self.bias
        probabilities: Floats = np.exp(-np.logaddexp(0, -logits))
        return probabilities


class _Basis:
    """Standardised statistics of clips, in the space that they span.

    The penalty makes the weights a combination of the clips, so that N clips need N weights however many statistics
    there are, and all penalties share one decomposition.

    Args:
        x: Statistics, ``float64[N, D]``.
        targets: Probabilities of violence to learn, ``float64[N]``.
        sample_weights: ``float64[N]``.
    """

    def __init__(self, x: Floats, targets: Floats, sample_weights: Floats) -> None:
        deviation = x.std(axis=0)
        self._mean = x.mean(axis=0)
        # A statistic that never varies tells nothing; its weight stays 0.
        self._scale = np.where(deviation > _EPSILON, 1 / np.maximum(deviation, _EPSILON), 0.0)
        left, values, self._axes = np.linalg.svd((x - self._mean) * self._scale, full_matrices=False)
        self._x = left * values
        self._targets, self._weights = targets, sample_weights / sample_weights.sum()

    def fit(self, penalty: float) -> LinearFit:
        """Minimise the weighted log loss plus the penalty by L-BFGS."""
        optimize: Any = require("scipy.optimize", extra="train", purpose="training")

        def loss(values: Floats) -> tuple[float, Floats]:
            weights, bias = values[:-1], values[-1]
            logits = self._x @ weights + bias
            errors = self._weights * (np.exp(-np.logaddexp(0, -logits)) - self._targets)
            gradient = np.append(self._x.T @ errors + penalty * weights, errors.sum())
            terms = np.logaddexp(0, logits) - self._targets * logits
            return float(self._weights @ terms + penalty / 2 * weights @ weights), gradient

        start = np.zeros(self._x.shape[1] + 1)
        found = optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 2000, "gtol": 1e-7})
        weights = (found.x[:-1] @ self._axes) * self._scale
        return LinearFit(weights, float(found.x[-1] - self._mean @ weights))


def fit_logistic(x: Floats, targets: Floats, penalty: float, sample_weights: Floats | None = None) -> LinearFit:
    """Fit a logistic regression on standardised statistics.

    Args:
        x: ``float64[N, D]``.
        targets: Probabilities of violence to learn, ``float64[N]``; labels, unless they are smoothed.
        penalty: lambda of ``mean loss + lambda / 2 |w|^2``; the intercept is not penalised.
        sample_weights: ``float64[N]``; all alike if left out.

    Returns:
        The classifier, for statistics as they are.

    Raises:
        MissingExtraError: SciPy is not installed.
    """
    return _Basis(x, targets, np.ones(len(x)) if sample_weights is None else sample_weights).fit(penalty)


class LogisticTrainer:
    """Trains a linear head on features, exactly.

    Args:
        recipe: Every choice.
        train: The training split; its features may have several views of each clip, which then weigh less each.
        valid: The validation split; it is judged, and chooses nothing.
        folder: Run folder, where the history is written.

    Attributes:
        model: The head.
        history: One record.
        penalty: The penalty that was used.
        held_out: Probabilities of violence of the clips of the training split, ``float64[N]``, each from a classifier
            that has learned from other sources at that penalty.

    Raises:
        DatasetError: A class is missing from the training split, or the validation split is empty.
        RecipeError: The head has further weights, or the recipe asks for another loss.
        RunError: The features hold NaN or infinity.
    """

    def __init__(self, recipe: Recipe, train: FeatureSplit, valid: FeatureSplit, folder: Path) -> None:
        check_splits(train, valid)
        self.recipe, self.train_split, self.valid_split, self.folder = recipe, train, valid, folder
        self.history: list[EpochRecord] = []
        self.penalty, self.held_out = math.nan, np.full(len(train.labels), np.nan)
        load_keras().utils.set_random_seed(recipe.training.seed)
        _refuse_unknown_loss(recipe)
        frames, dim = train.features.shape[-2:]
        self.model = recipe.make_head().build((frames, dim))
        if not recipe.make_head().linear:
            raise RecipeError(
                f'optimizer.solver = "logistic" fits a linear head, and {recipe.head.name} has layers of its own',
                'set head.name = "pooling" and head.dense = 0, or optimizer.solver = "adamw"',
            )

    @property
    def best(self) -> EpochRecord:
        """The only record."""
        return self.history[0]

    def fit(self) -> None:
        """Choose the penalty, fit on the whole training split, and put the weights into the model."""
        started = time.perf_counter()
        statistics = self._statistics()
        penalties = PENALTIES if self.recipe.optimizer.l2 == "auto" else (self.recipe.optimizer.l2,)
        losses, held_out = self._cross_validate(statistics, penalties)
        chosen = int(np.argmin(losses))
        self.penalty, self.held_out = penalties[chosen], held_out[chosen]
        fit = self._basis(statistics, np.arange(len(statistics))).fit(self.penalty)
        half = fit.weights[:, None] * (-0.5, 0.5)
        self.model.get_layer("logits").set_weights([half, np.array((-fit.bias / 2, fit.bias / 2))])
        self._record(statistics, fit, time.perf_counter() - started)
        loss = f"log loss {losses[chosen]:.4f} on held-out sources"
        say(f"train: logistic regression, L2 penalty {self.penalty:.3g}, {loss}")

    def _statistics(self) -> Floats:
        """What the layer ``logits`` reads, ``float64[N, V, D]``."""
        keras: Any = load_keras()
        body = keras.Model(self.model.input, self.model.get_layer("logits").input)
        features, count = self.train_split.features, len(self.train_split.labels)
        parts = []
        for start in range(0, count, _BATCH):
            part = np.asarray(features[start : start + _BATCH], np.float32)
            flat = body(part.reshape(-1, *part.shape[-2:]), training=False).numpy()
            parts.append(flat.reshape(len(part), self.train_split.views, -1))
        return np.concatenate(parts).astype(np.float64)

    def _basis(self, statistics: Floats, clips: npt.NDArray[np.int64]) -> _Basis:
        views, labels = self.train_split.views, self.train_split.labels[clips]
        smoothing = self.recipe.loss.label_smoothing
        targets = labels * (1 - smoothing) + smoothing / 2
        weights = self._class_weights()[labels]
        x = statistics[clips].reshape(len(clips) * views, -1)
        return _Basis(x, np.repeat(targets, views), np.repeat(weights, views))

    def _class_weights(self) -> Floats:
        loss, labels = self.recipe.loss, self.train_split.labels
        alpha = balanced_weights(labels) if loss.alpha == "balanced" else loss.alpha
        return np.asarray(alpha) * class_weights(loss.class_weights, labels)

    def _cross_validate(self, statistics: Floats, penalties: tuple[float, ...]) -> tuple[Floats, Floats]:
        """The log loss of each penalty on held-out sources, ``[P]``, and the probabilities there, ``[P, N]``."""
        labels, middle = self.train_split.labels, self.train_split.views // 2
        logits = np.zeros((len(penalties), len(labels)))
        losses = np.zeros(len(penalties))
        for repetition in range(_REPETITIONS):
            for train, held_out in self._folds(repetition):
                basis = self._basis(statistics, train)
                for index, penalty in enumerate(penalties):
                    fit = basis.fit(penalty)
                    logit = statistics[held_out, middle] @ fit.weights + fit.bias
                    logits[index, held_out] += logit / _REPETITIONS
                    losses[index] += np.logaddexp(0, np.where(labels[held_out] == 1, -logit, logit)).sum()
        return losses / (_REPETITIONS * len(labels)), np.exp(-np.logaddexp(0, -logits))

    def _folds(self, repetition: int) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
        """Parts to learn from and to judge; all clips of a source are in the same part."""
        selection: Any = require("sklearn.model_selection", extra="train", purpose="cross-validation")
        labels, groups = self.train_split.labels, self.train_split.sources()
        folds = min(_FOLDS, len(np.unique(groups)), int(np.bincount(labels).min()))
        if folds < 2:
            raise DatasetError(
                "the training split is too small for cross-validation",
                'add clips or sources of both classes, or set optimizer.solver = "adamw"',
            )
        seed = self.recipe.training.seed * _REPETITIONS + repetition
        splitter = selection.StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
        for train, held_out in splitter.split(labels, labels, groups):
            if len(np.unique(labels[train])) == 2:
                yield train, held_out

    def _record(self, statistics: Floats, fit: LinearFit, seconds: float) -> None:
        labels = self.valid_split.labels
        probabilities = predict(self.model, self.valid_split.features)[:, 1]
        auc = None
        if len(set(labels.tolist())) == 2:
            metrics = require("sklearn.metrics", extra="train", purpose="training")
            auc = float(metrics.roc_auc_score(labels, probabilities))
        learned = fit.probabilities(statistics[:, self.train_split.views // 2])
        record = EpochRecord(
            epoch=1,
            loss=log_loss(self.train_split.labels, learned),
            valid_loss=log_loss(labels, probabilities),
            valid_auc=auc,
            valid_accuracy=float(np.mean((probabilities >= 0.5) == labels)),
            learning_rate=0.0,
            seconds=seconds,
        )
        self.history = [record]
        if is_chief():
            write_text(self.folder / "history.csv", history_csv(self.history))


def _refuse_unknown_loss(recipe: Recipe) -> None:
    if key := recipe.stepwise:
        section, name = key.split(".")
        off = "0" if key == "loss.gamma" else json.dumps(type(getattr(recipe, section)).model_fields[name].default)
        raise RecipeError(
            f'optimizer.solver = "logistic" minimises cross-entropy on the clips as they are: {key} must be {off}',
            f'set {key} = {off}, or optimizer.solver = "adamw"',
        )
