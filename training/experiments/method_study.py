"""What each method changes: cross-validation grouped by source, and paired differences with intervals over sources."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from training.experiments.cross_validation import (
    CrossValidation,
    Difference,
    Interval,
    accuracy_difference,
    auc_difference,
    cross_validate,
)
from training.experiments.folds import content_of, extract_folds, fold_count
from training.experiments.method_arms import ADAMW, MethodArm
from training.experiments.result_file import ResultFile
from training.methods.fine_tuning import trunk_of
from training.methods.self_supervised.trunk import trunk_identity
from vdeploy.core.errors import UserError
from vdeploy.core.progress import say
from vdeploy.dataset import Dataset

__all__ = ["MethodRow", "MethodStudy", "holm", "study_methods"]

LEVEL = 0.05
"""Probability, at most, that any difference of a study is called beyond noise where no method changes anything."""


@dataclasses.dataclass(frozen=True)
class MethodRow:
    """One arm.

    Attributes:
        arm: The recipe.
        judged: Its probabilities of clips from sources that it has not learned from.
        gain: Accuracy less that of the recipe; ``None`` for the recipe itself.
        gain_in_steps: Accuracy less that of the recipe trained by AdamW, where that tells what the method does.
        auc_gain: Area under the ROC curve less that of the recipe.
    """

    arm: MethodArm
    judged: CrossValidation
    gain: Difference | None = None
    gain_in_steps: Difference | None = None
    auc_gain: Interval | None = None


@dataclasses.dataclass(frozen=True)
class MethodStudy:
    """The outcome of `study_methods`.

    Attributes:
        rows: The recipe, and an arm a method.
        folds: Parts of the cross-validation.
        left_out: Why a method has no arm, by name.
    """

    rows: tuple[MethodRow, ...]
    folds: int
    left_out: dict[str, str]

    @functools.cached_property
    def beyond_noise(self) -> frozenset[Difference]:
        """The differences of accuracy that are beyond noise, by Holm's procedure over all of them."""
        found = holm([gain.p_value for gain in self._gains], LEVEL)
        return frozenset(gain for gain, is_found in zip(self._gains, found, strict=True) if is_found)

    @property
    def comparisons(self) -> int:
        """How many differences of accuracy are tested."""
        return len(self._gains)

    @property
    def _gains(self) -> list[Difference]:
        return [gain for row in self.rows for gain in (row.gain, row.gain_in_steps) if gain is not None]

    @property
    def conditions(self) -> str:
        """Describes how the figures were measured, in a few lines below the table."""
        judged = self.rows[0].judged
        seeds, sources = len(judged.probabilities), len(np.unique(judged.groups))
        lines = [
            f"{len(judged.labels)} clips of {sources} sources, {self.folds} folds, mean over {seeds} seeds",
            "each clip is judged at threshold 0.5 by classifiers that have learned from other sources",
            "differences: in hundredths, with 95 % intervals from a paired bootstrap over sources",
            f"*: beyond noise; {self.comparisons} differences of accuracy, tested together at {LEVEL:g} (Holm 1979)",
            "a row that is taken because it is the best here is flattered by its own figures",
        ]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        judged = self.rows[0].judged
        return {
            "clips": len(judged.labels),
            "sources": len(np.unique(judged.groups)),
            "folds": self.folds,
            "seeds": len(judged.probabilities),
            "comparisons": self.comparisons,
            "left_out": self.left_out,
            "rows": [self._row(row) for row in self.rows],
        }

    def _row(self, row: MethodRow) -> dict[str, Any]:
        gains = {"gain": row.gain, "gain_in_steps": row.gain_in_steps}
        tested = {
            name: None if gain is None else {**dataclasses.asdict(gain), "beyond_noise": gain in self.beyond_noise}
            for name, gain in gains.items()
        }
        return {
            "name": row.arm.name,
            **row.judged.to_dict(),
            **tested,
            "auc_gain": None if row.auc_gain is None else dataclasses.asdict(row.auc_gain),
            "recipe": row.arm.recipe.model_dump(mode="json"),
        }


def study_methods(
    arms: Sequence[MethodArm],
    dataset: Dataset,
    store_root: Path,
    finished: ResultFile,
    *,
    seeds: int = 3,
    strict: bool = False,
    left_out: dict[str, str] | None = None,
) -> MethodStudy:
    """Cross-validates every arm on the same folds; folds that are finished are not trained again.

    Args:
        arms: The recipe first, as `training.experiments.method_arms.method_arms` gives them.
        dataset: The clips; their splits play no part.
        store_root: Folder of all feature stores.
        finished: Finished folds, to which each further one is added.
        seeds: How often the cross-validation is repeated.
        strict: Refuse clips that cannot be read instead of leaving them out.
        left_out: Methods without an arm, with the reasons, for the record. Arms that cannot be trained are added.

    Raises:
        UserError: There are too few sources, or the data, the weights or the recipe do not allow it.
    """
    folds = fold_count(dataset)
    rows: list[MethodRow] = []
    left_out = dict(left_out or {})
    for arm in arms:
        say(f"ablate: {arm.name}")
        try:
            judged = _judge(arm, dataset, store_root, finished, folds=folds, seeds=seeds, strict=strict)
        except UserError as error:
            if not rows:
                raise
            left_out[arm.name] = str(error)
            continue
        if not rows:
            rows.append(MethodRow(arm, judged))
            continue
        base = rows[0].judged
        in_steps = next((row.judged for row in rows if row.arm.name == ADAMW), None) if arm.in_steps else None
        gain_in_steps = None if in_steps is None else accuracy_difference(judged, in_steps)
        rows.append(
            MethodRow(arm, judged, accuracy_difference(judged, base), gain_in_steps, auc_difference(judged, base))
        )
    return MethodStudy(tuple(rows), folds, left_out)


def _judge(
    arm: MethodArm,
    dataset: Dataset,
    store_root: Path,
    finished: ResultFile,
    *,
    folds: int,
    seeds: int,
    strict: bool,
) -> CrossValidation:
    weights = arm.recipe.make_backbone().find_weights()
    trunk = trunk_of(arm.recipe, weights)
    readable, clips = extract_folds(dataset, arm.recipe, weights, store_root, trunk, strict=strict)
    identity = arm.recipe.varied(training={"seed": 0}).identity
    return cross_validate(
        arm.recipe,
        clips,
        seeds=seeds,
        folds=folds,
        name=arm.name,
        trunk=trunk,
        finished=finished,
        identity=[identity, weights.sha256, content_of(readable), *trunk_identity(arm.recipe)],
    )


def holm(p_values: Sequence[float], level: float) -> list[bool]:
    """Which of several hypotheses are rejected, so that any false rejection has at most a probability.

    The step-down procedure of Holm (1979), "A Simple Sequentially Rejective Multiple Test Procedure": the k-th smallest
    of m p-values, from k = 1 on, is rejected while it is at most level / (m + 1 - k).

    Args:
        p_values: One a hypothesis.
        level: The probability.
    """
    rejected = [False] * len(p_values)
    for done, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        if p_values[index] > level / (len(p_values) - done):
            break
        rejected[index] = True
    return rejected
