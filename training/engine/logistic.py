"""Exact training of a linear classifier: logistic regression with an L2 penalty that cross-validation chooses.

A head whose only weights are those of its layer ``logits`` is a logistic regression on what its body computes, a convex
problem. Its solution needs no learning rate, no epochs and no validation split to stop at, so that all of the training
split is learned from. With few clips that is worth several points of accuracy.
"""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from training.engine.cross_fitting import PENALTIES, WeighedClips, clip_statistics, cross_fit
from training.engine.devices import is_chief
from training.engine.epoch_plan import FeatureSplit, check_splits
from training.engine.history import EpochRecord, history_csv
from training.engine.logistic_regression import LinearFit
from training.engine.losses import class_weights, focal_alpha
from training.methods.confident_learning import LabelAudit
from training.recipe import Recipe
from training.recipe_methods import stepwise_key
from vdeploy.core.errors import RecipeError
from vdeploy.core.files import write_text
from vdeploy.core.lazy_imports import load_keras, require
from vdeploy.core.progress import say
from vdeploy.evaluation.calibration import log_loss
from vdeploy.features.prediction import predict
from vdeploy.video.views import usual_view

if TYPE_CHECKING:
    import keras
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

__all__ = ["LogisticTrainer"]


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
        audit: What was found out about the labels, where the recipe asks; set by `make_trainer`.
        held_out: Probabilities of violence of the clips of the training split, ``float64[N]``, each from a classifier
            that has learned from other sources at that penalty.

    Raises:
        DatasetError: A class is missing from the training split, or the validation split is empty.
        RecipeError: The head has further weights, or the recipe asks for another loss.
        RunError: The features hold NaN or infinity.
    """

    audit: LabelAudit | None = None

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
    def head(self) -> keras.Model:
        """The model."""
        return self.model

    @property
    def best(self) -> EpochRecord:
        """The only record."""
        return self.history[0]

    def fit(self) -> None:
        """Choose the penalty, fit on the whole training split, and put the weights into the model."""
        started = time.perf_counter()
        clips = self._clips()
        penalties = PENALTIES if self.recipe.optimizer.l2 == "auto" else (self.recipe.optimizer.l2,)
        found = cross_fit(clips, penalties, self.recipe.training.seed, 'optimizer.solver = "adamw"')
        self.penalty, self.held_out = found.penalties[found.best], found.probabilities[found.best]
        fit = clips.basis().fit(self.penalty)
        half = fit.weights[:, None] * (-0.5, 0.5)
        self.model.get_layer("logits").set_weights([half, np.array((-fit.bias / 2, fit.bias / 2))])
        self._record(clips.statistics, fit, time.perf_counter() - started)
        loss = f"log loss {found.losses[found.best]:.4f} on held-out sources"
        say(f"train: logistic regression, L2 penalty {self.penalty:.3g}, {loss}")

    def _clips(self) -> WeighedClips:
        split, smoothing = self.train_split, self.recipe.loss.label_smoothing
        targets = split.labels.astype(np.float64) * (1 - smoothing) + smoothing / 2
        weights = self._class_weights()[split.labels]
        return WeighedClips(clip_statistics(self.model, split), split.labels, split.sources(), targets, weights)

    def _class_weights(self) -> Floats:
        loss, labels = self.recipe.loss, self.train_split.labels
        return np.multiply(focal_alpha(loss.alpha, labels), class_weights(loss.class_weights, labels))

    def _record(self, statistics: Floats, fit: LinearFit, seconds: float) -> None:
        labels = self.valid_split.labels
        probabilities = predict(self.model, self.valid_split.features)[:, 1]
        auc = None
        if len(set(labels.tolist())) == 2:
            metrics = require("sklearn.metrics", extra="train", purpose="training")
            auc = float(metrics.roc_auc_score(labels, probabilities))
        learned = fit.probabilities(statistics[:, usual_view(self.train_split.views)])
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
    if key := stepwise_key(recipe):
        section, name = key.split(".")
        off = "0" if key == "loss.gamma" else json.dumps(type(getattr(recipe, section)).model_fields[name].default)
        raise RecipeError(
            f'optimizer.solver = "logistic" minimises cross-entropy on the clips as they are: {key} must be {off}',
            f'set {key} = {off}, or optimizer.solver = "adamw"',
        )
