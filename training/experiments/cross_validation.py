"""Cross-validation of a recipe on one data set, with all clips of a source on the same side."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from training.engine.trainer import FeatureSplit
from training.experiments.judged_folds import THRESHOLD, groups_of, judge_folds
from training.experiments.result_file import ResultFile
from training.experiments.sign_flip_test import sign_flip_p_value
from training.recipe import Recipe
from vdeploy.core.lazy_imports import require
from vdeploy.core.progress import track
from vdeploy.models.trunk import Trunk

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = [
    "CrossValidation",
    "Difference",
    "Interval",
    "accuracy_difference",
    "auc_difference",
    "cross_validate",
]

_RESAMPLES = 2000


@dataclasses.dataclass(frozen=True)
class Interval:
    """A figure with its 95 % interval over sources."""

    value: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Difference(Interval):
    """A figure of one model less that of another on the same clips.

    Attributes:
        p_value: Two-sided probability of a difference as large where there is none, by
            `training.experiments.sign_flip_test`.
    """

    p_value: float


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

        Raises:
            MissingExtraError: SciPy is not installed.
        """
        return self.interval(self.auc_of)

    def auc_of(self, clips: npt.NDArray[np.int64]) -> float:
        """The area under the ROC curve of some clips, mean over the seeds; NaN where they are of one class.

        Computed from ranks (Hanley and McNeil 1982), which is much faster than by curves in a bootstrap.

        Args:
            clips: Their numbers.

        Raises:
            MissingExtraError: SciPy is not installed.
        """
        stats: Any = require("scipy.stats", extra="report", purpose="measuring accuracy")
        violent = self.labels[clips] == 1
        positives = int(violent.sum())
        if positives in (0, len(clips)):
            return float("nan")
        ranks = stats.rankdata(self.probabilities[:, clips], axis=1)[:, violent].sum(axis=1)
        areas = (ranks - positives * (positives + 1) / 2) / (positives * (len(clips) - positives))
        return float(areas.mean())

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready figures with their intervals; the decided accuracy only where verdicts are known."""
        figures = {
            "accuracy": self.accuracy(),
            "decided_accuracy": self.decided_accuracy(),
            "roc_auc": self.roc_auc(),
        }
        known = {name: dataclasses.asdict(figure) for name, figure in figures.items() if figure is not None}
        return {**known, "accuracy_by_seed": list(self.seed_accuracy)}

    def interval(self, figure: Callable[[npt.NDArray[np.int64]], float]) -> Interval:
        """A figure with its percentile bootstrap over sources, as clips of one source are alike (Field and Welsh 2007).

        The same sources are drawn in every call.

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
    clips: FeatureSplit,
    *,
    seeds: int = 3,
    folds: int = 5,
    name: str = "",
    trunk: Trunk | None = None,
    finished: ResultFile | None = None,
    identity: object = None,
) -> CrossValidation:
    """Train a classifier for every seed and fold, and score the clips that it has not seen.

    Args:
        recipe: Every choice but the seed.
        clips: All clips, with their sources; of several views to learn from, the usual one is judged.
        seeds: How often everything is repeated; a seed decides on the folds, the first weights and the order of clips.
        folds: Parts that the clips are split into.
        name: What the progress bar calls it.
        trunk: What the features are activations of, where the recipe trains blocks of the backbone.
        finished: Folds that are finished; each further one is added.
        identity: What the results depend on, JSON-ready: the name of the work in ``finished``.

    Raises:
        UserError: There are too few sources, or the data do not allow a training.
    """
    probabilities = np.empty((seeds, len(clips.labels)))
    verdicts = np.empty((seeds, len(clips.labels)), bool)
    with track(f"cross-validate {name}".rstrip(), seeds * folds, "trainings") as step:
        for fold in judge_folds(
            recipe, clips, seeds=seeds, folds=folds, trunk=trunk, finished=finished, identity=identity
        ):
            probabilities[fold.seed, fold.clips], verdicts[fold.seed, fold.clips] = fold.probabilities, fold.verdicts
            step.advance()
    return CrossValidation(clips.labels, groups_of(clips), probabilities, verdicts)


def accuracy_difference(one: CrossValidation, other: CrossValidation) -> Difference:
    """The accuracy of one model less that of another on the same clips.

    The interval is that of the paired difference. The test asks whether the right verdicts that each source gains or
    loses are as likely the other way round.

    Raises:
        ValueError: They were judged on other clips.
    """
    _check_same_clips(one, other)
    gain = one.correct - other.correct
    interval = one.interval(lambda clips: float(gain[clips].mean()))
    _, sources = np.unique(one.groups, return_inverse=True)
    gains = np.bincount(sources, gain).astype(np.float64)
    return Difference(interval.value, interval.low, interval.high, sign_flip_p_value(gains))


def auc_difference(one: CrossValidation, other: CrossValidation) -> Interval:
    """The area under the ROC curve of one model less that of another on the same clips.

    Raises:
        MissingExtraError: SciPy is not installed.
        ValueError: They were judged on other clips.
    """
    _check_same_clips(one, other)
    return one.interval(lambda clips: one.auc_of(clips) - other.auc_of(clips))


def _check_same_clips(one: CrossValidation, other: CrossValidation) -> None:
    if not (np.array_equal(one.labels, other.labels) and np.array_equal(one.groups, other.groups)):
        raise ValueError("the models were judged on different clips")
