"""Comparison of recipes on the same features over several seeds."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from training.engine.epoch_plan import FeatureSplit
from training.experiments.confidence_intervals import Mean, mean_over_seeds
from training.experiments.data import StudyData
from training.experiments.imbalance import Imbalance
from training.experiments.results_cache import Ledger
from training.experiments.single_run import Figures, train_once
from training.recipe import Recipe
from vdeploy.core.progress import say

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Arm", "Comparison", "Row", "compare"]


@dataclasses.dataclass(frozen=True)
class Arm:
    """A recipe in a comparison. The comparison replaces its seed."""

    name: str
    recipe: Recipe


@dataclasses.dataclass(frozen=True)
class Row:
    """One arm's figures over all seeds.

    Attributes:
        name: The arm.
        figures: One for each seed.
        rare_label: The less frequent label in the training split; 1 if both are equally frequent.
    """

    name: str
    figures: tuple[Figures, ...]
    rare_label: int

    @property
    def accuracy(self) -> Mean:
        """Accuracy at a threshold of 0.5."""
        return mean_over_seeds([figures.accuracy for figures in self.figures])

    @property
    def rare_accuracies(self) -> list[float]:
        """Accuracy among clips of the rare class, for each seed; empty if there is no such clip."""
        both = [(figures.accuracy_non_violent, figures.accuracy_violent) for figures in self.figures]
        return [value for pair in both if (value := pair[self.rare_label]) is not None]

    @property
    def rare_accuracy(self) -> Mean | None:
        """Their mean."""
        values = self.rare_accuracies
        return mean_over_seeds(values) if values else None

    @property
    def calibrated_accuracy(self) -> Mean:
        """Accuracy after the calibration that ``vdeploy train`` applies."""
        return mean_over_seeds([figures.calibrated_accuracy for figures in self.figures])

    @property
    def calibrated_rare_accuracies(self) -> list[float]:
        """The same among clips of the rare class, for each seed; empty if there is no such clip."""
        both = [(figures.calibrated_non_violent, figures.calibrated_violent) for figures in self.figures]
        return [value for pair in both if (value := pair[self.rare_label]) is not None]

    @property
    def calibrated_rare_accuracy(self) -> Mean | None:
        """Their mean."""
        values = self.calibrated_rare_accuracies
        return mean_over_seeds(values) if values else None

    @property
    def roc_auc(self) -> Mean | None:
        """Area under the ROC curve; ``None`` if the evaluated clips are of one class."""
        values = [figures.roc_auc for figures in self.figures if figures.roc_auc is not None]
        return mean_over_seeds(values) if values else None

    @property
    def seconds(self) -> float:
        """Mean duration of a training."""
        return sum(figures.seconds for figures in self.figures) / len(self.figures)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The outcome of `compare`.

    Attributes:
        rows: One for each arm, in their order.
        rare_class: ``"non-violent"`` or ``"violent"``: the class of `Row.rare_accuracy`.
        train_clips: Number of training clips: non-violent, violent.
        judged_clips: Number of evaluated clips: non-violent, violent.
        judged_split: Split of the evaluated clips.
        seeds: The seeds.
        imbalance: Description of the clips that were dropped from the training split, or ``None``.
    """

    rows: tuple[Row, ...]
    rare_class: str
    train_clips: tuple[int, int]
    judged_clips: tuple[int, int]
    judged_split: str
    seeds: tuple[int, ...]
    imbalance: str | None

    def to_dict(self) -> dict[str, Any]:
        """Returns JSON-ready values with Student's 95 % intervals."""
        values = dataclasses.asdict(self)
        values["rows"] = [
            {
                "name": row.name,
                "accuracy": dataclasses.asdict(row.accuracy),
                "rare_accuracy": _as_dict(row.rare_accuracy),
                "calibrated_accuracy": dataclasses.asdict(row.calibrated_accuracy),
                "calibrated_rare_accuracy": _as_dict(row.calibrated_rare_accuracy),
                "roc_auc": _as_dict(row.roc_auc),
                "seconds": row.seconds,
                "trainings": [dataclasses.asdict(figures) for figures in row.figures],
            }
            for row in self.rows
        ]
        return values

    @property
    def _fitted_on(self) -> str:
        return "the other half of the evaluated clips" if self.judged_split == "valid" else "the valid split"

    @property
    def conditions(self) -> str:
        """Describes how the figures were measured, in a few lines below the table."""
        lines = [
            f"trained on {_clips(self.train_clips)}" + (f": {self.imbalance}" if self.imbalance else ""),
            f"judged on {_clips(self.judged_clips)} of the {self.judged_split} split at threshold 0.5",
            f"calibrated: as by vdeploy train, fitted on {self._fitted_on}",
            f"mean over {len(self.seeds)} seeds ± Student's 95 % interval; seconds: one training",
        ]
        if self.judged_split == "valid":
            lines.append("the best epoch was chosen on the same validation split, so all figures are optimistic")
        return "\n".join(lines)


def compare(
    arms: Iterable[Arm],
    data: StudyData,
    seeds: Sequence[int],
    ledger: Ledger,
    *,
    imbalance: Imbalance | None = None,
) -> Comparison:
    """Trains every arm with every seed, except those that the cache holds.

    Args:
        arms: The recipes.
        data: The features.
        seeds: Each determines the initial weights, the order of clips and, with ``imbalance``, the dropped clips.
        ledger: Finished trainings.
        imbalance: Drop clips of one class from the training split.

    Raises:
        UserError: As for `train_once`, or the imbalance cannot be made.
    """

    def split(recipe: Recipe, seed: int) -> FeatureSplit:
        train = data.seen_by(recipe).train
        return imbalance.apply(train, seed) if imbalance else train

    counts = _counts((imbalance.apply(data.train, seeds[0]) if imbalance else data.train).labels)
    change = None
    if imbalance:
        before = _counts(data.train.labels)[imbalance.label]
        change = f"{imbalance}, {counts[imbalance.label]} of {before} kept, drawn anew by each seed"
        say(f"imbalance: {change}")
    rare_label = int(counts[1] <= counts[0])
    rows = []
    for arm in arms:
        figures = []
        for seed in seeds:
            recipe = arm.recipe.varied(training={"seed": seed})
            identity = {
                "recipe": recipe.identity,
                "data": data.digest,
                "imbalance": dataclasses.asdict(imbalance) if imbalance else None,
            }
            label = f"{arm.name}, seed {seed}"
            say(f"{label}: {'known' if identity in ledger else 'training'}")
            figures.append(
                ledger.figures(identity, label, partial(train_once, recipe, data, train=split(recipe, seed)))
            )
        rows.append(Row(arm.name, tuple(figures), rare_label))
    return Comparison(
        rows=tuple(rows),
        rare_class=("non-violent", "violent")[rare_label],
        train_clips=counts,
        judged_clips=_counts(data.judged.labels),
        judged_split=data.judged_split,
        seeds=tuple(seeds),
        imbalance=change,
    )


def _counts(labels: npt.NDArray[np.int64]) -> tuple[int, int]:
    negative, positive = np.bincount(labels, minlength=2)
    return int(negative), int(positive)


def _clips(counts: tuple[int, int]) -> str:
    return f"{counts[0]} non-violent and {counts[1]} violent clips"


def _as_dict(mean: Mean | None) -> dict[str, Any] | None:
    return None if mean is None else dataclasses.asdict(mean)
