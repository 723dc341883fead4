"""Cross-validation of a recipe on one data set, with all clips of a source on the same side."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from training.engine.choose_trainer import make_trainer
from training.engine.trainer import FeatureSplit
from training.experiments.folds import Fold, grouped_folds
from training.recipe import Recipe
from training.recipe_sections import DecisionSection
from training.report.evaluate_run import decision_threshold
from vdeploy.core.lazy_imports import load_keras, require
from vdeploy.core.progress import quietly, track
from vdeploy.evaluation.calibration import fit_calibration
from vdeploy.features.prediction import predict
from vdeploy.features.rows import FeatureRows
from vdeploy.models.trunk import Trunk

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["CrossValidation", "Interval", "accuracy_difference", "cross_validate", "judge_fold"]

THRESHOLD = 0.5
"""Clips are judged at this probability, without calibration: nothing is chosen on clips that are reported on."""

_RESAMPLES = 2000


@dataclasses.dataclass(frozen=True)
class Interval:
    """A figure with its 95 % interval over sources."""

    value: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class CrossValidation:
    """Probabilities of clips that a classifier has not learned from.

    Attributes:
        labels: ``int64[N]``.
        groups: The source of each clip.
        probabilities: Of violence, ``float64[S, N]``; one row a seed.
        verdicts: Whether the clip is violent by the calibration and the threshold of its fold, ``bool[S, N]``; ``None``
            where they are not known.
    """

    labels: npt.NDArray[np.int64]
    groups: npt.NDArray[np.str_]
    probabilities: npt.NDArray[np.float64]
    verdicts: npt.NDArray[np.bool_] | None = None

    @property
    def seed_accuracy(self) -> tuple[float, ...]:
        """The accuracy of each seed at a threshold of 0.5."""
        return tuple(float(np.mean((row >= THRESHOLD) == self.labels)) for row in self.probabilities)

    @property
    def correct(self) -> npt.NDArray[np.float64]:
        """``float64[N]``, the share of seeds that judge a clip rightly at a threshold of 0.5."""
        share: npt.NDArray[np.float64] = ((self.probabilities >= THRESHOLD) == self.labels).mean(axis=0)
        return share

    def accuracy(self) -> Interval:
        """The accuracy at a threshold of 0.5, mean over the seeds."""
        correct = self.correct
        return self.interval(lambda clips: float(correct[clips].mean()))

    def decided_accuracy(self) -> Interval | None:
        """The accuracy with the calibration and the threshold that each training chose, mean over the seeds."""
        if self.verdicts is None:
            return None
        right = (self.verdicts == self.labels).mean(axis=0)
        return self.interval(lambda clips: float(right[clips].mean()))

    def roc_auc(self) -> Interval:
        """The area under the ROC curve, mean over the seeds.

        Computed from ranks (Hanley and McNeil 1982), which is much faster than by curves in a bootstrap.

        Raises:
            MissingExtraError: SciPy is not installed.
        """
        stats: Any = require("scipy.stats", extra="report", purpose="measuring accuracy")

        def mean_auc(clips: npt.NDArray[np.int64]) -> float:
            violent = self.labels[clips] == 1
            positives = int(violent.sum())
            if positives in (0, len(clips)):
                return float("nan")
            ranks = stats.rankdata(self.probabilities[:, clips], axis=1)[:, violent].sum(axis=1)
            areas = (ranks - positives * (positives + 1) / 2) / (positives * (len(clips) - positives))
            return float(areas.mean())

        return self.interval(mean_auc)

    def interval(self, figure: Callable[[npt.NDArray[np.int64]], float]) -> Interval:
        """A figure with its percentile bootstrap over sources, as clips of one source are alike (Field and Welsh 2007).

        Args:
            figure: Computes it for clips given by number; NaN where it is not defined.
        """
        rng = np.random.default_rng(0)
        members = [np.flatnonzero(self.groups == group) for group in np.unique(self.groups)]
        drawn = [
            figure(np.concatenate([members[index] for index in rng.integers(len(members), size=len(members))]))
            for _ in range(_RESAMPLES)
        ]
        low, high = np.nanpercentile(drawn, [2.5, 97.5])
        return Interval(figure(np.arange(len(self.labels))), float(low), float(high))


def cross_validate(
    recipe: Recipe,
    features: FeatureRows,
    labels: npt.NDArray[np.int64],
    groups: npt.NDArray[np.str_],
    *,
    seeds: int = 3,
    folds: int = 5,
    name: str = "",
    trunk: Trunk | None = None,
) -> CrossValidation:
    """Train a classifier for every seed and fold, and score the clips that it has not seen.

    Args:
        recipe: Every choice but the seed.
        features: ``float16[N, t, F]``, or ``float16[N, V, t, F]``: V views of each clip to learn from, of which the
            usual one is judged.
        labels: ``int64[N]``.
        groups: The source of each clip.
        seeds: How often everything is repeated; a seed decides on the folds, the first weights and the order of clips.
        folds: Parts that the clips are split into.
        name: What the progress bar calls it.
        trunk: What the features are activations of, where the recipe trains blocks of the backbone.

    Raises:
        UserError: There are too few sources, or the data do not allow a training.
    """
    probabilities = np.empty((seeds, len(labels)))
    verdicts = np.empty((seeds, len(labels)), bool)
    with track(f"cross-validate {name}".rstrip(), seeds * folds, "trainings") as step:
        for seed in range(seeds):
            seeded = recipe.varied(training={"seed": seed})
            for fold in grouped_folds(labels, groups, folds, seed):
                judged, decided = judge_fold(seeded, FeatureSplit(features, labels, groups), fold, trunk)
                probabilities[seed, fold.judged], verdicts[seed, fold.judged] = judged, decided
                step.advance()
    return CrossValidation(labels, groups, probabilities, verdicts)


def judge_fold(
    recipe: Recipe, clips: FeatureSplit, fold: Fold, trunk: Trunk | None = None
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Train on a fold and judge its clips.

    Args:
        recipe: Every choice.
        clips: All clips; their features may have several views, of which the usual one is judged.
        fold: Which of them are learned from, and which are judged.
        trunk: What the features are activations of, where the recipe trains blocks of the backbone.

    Returns:
        Probabilities of violence and verdicts of the clips to judge.

    Raises:
        UserError: The data do not allow a training.
    """
    load_keras().utils.clear_session()
    # A linear head needs no clips to choose an epoch on, so it learns from these as well.
    learned = np.union1d(fold.train, fold.valid) if recipe.solver == "logistic" else fold.train
    train, valid = clips.select(learned), clips.select(fold.valid).as_served()
    with quietly(), tempfile.TemporaryDirectory(prefix="vdeploy-fold-") as folder:
        trainer = make_trainer(recipe, train, valid, Path(folder), trunk=trunk)
        trainer.fit()
    judged = predict(trainer.model, clips.select(fold.judged).as_served().features)[:, 1]
    chooser, scores = (
        (valid, predict(trainer.model, valid.features)[:, 1])
        if trainer.held_out is None
        else (trainer.train_split, trainer.held_out)
    )
    return judged, _verdicts(recipe.decision, chooser, scores, judged)


def _verdicts(
    section: DecisionSection, chooser: FeatureSplit, scores: npt.NDArray[Any], judged: npt.NDArray[np.float32]
) -> npt.NDArray[np.bool_]:
    """Judge clips as `vdeploy train` would: calibration and threshold come from clips that were not learned from.

    Args:
        section: The rule of the threshold.
        chooser: The clips that choose.
        scores: Their probabilities.
        judged: Probabilities of the clips to judge.
    """
    if len(np.unique(chooser.labels)) < 2:
        return judged >= THRESHOLD
    calibration = fit_calibration(chooser.labels, scores)
    groups = [] if chooser.groups is None else chooser.groups.tolist()
    threshold, _ = decision_threshold(chooser.labels, calibration.apply(scores), groups, section)
    return calibration.apply(judged) >= threshold


def accuracy_difference(one: CrossValidation, other: CrossValidation) -> Interval:
    """The accuracy of one model less that of another on the same clips; the interval is that of the paired difference.

    Raises:
        ValueError: They were judged on other clips.
    """
    if not (np.array_equal(one.labels, other.labels) and np.array_equal(one.groups, other.groups)):
        raise ValueError("the models were judged on different clips")
    gain = one.correct - other.correct
    return one.interval(lambda clips: float(gain[clips].mean()))
