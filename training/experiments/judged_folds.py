"""The folds of a cross-validation: trainings, and their probabilities of clips that they have not learned from."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from training.engine.choose_trainer import make_trainer
from training.engine.trainer import FeatureSplit
from training.experiments.folds import Fold, grouped_folds
from training.experiments.result_file import ResultFile
from training.recipe import Recipe
from training.recipe_sections import DecisionSection
from training.report.evaluate_run import decision_threshold
from vdeploy.core.lazy_imports import load_keras
from vdeploy.core.progress import quietly
from vdeploy.evaluation.calibration import fit_calibration
from vdeploy.features.prediction import predict
from vdeploy.models.trunk import Trunk

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["THRESHOLD", "JudgedFold", "groups_of", "judge_fold", "judge_folds"]

THRESHOLD = 0.5
"""Clips are judged at this probability, without calibration: nothing is chosen on clips that are reported on."""


@dataclasses.dataclass(frozen=True)
class JudgedFold:
    """The clips of one fold with the verdicts of a classifier that has not learned from their sources.

    Attributes:
        seed: The seed of the folds and of the training.
        clips: Their numbers, ``int64[M]``.
        probabilities: Of violence, ``float64[M]``.
        verdicts: Whether a clip is violent by the fold's calibration and threshold, ``bool[M]``.
    """

    seed: int
    clips: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float64]
    verdicts: npt.NDArray[np.bool_]


def judge_folds(
    recipe: Recipe,
    clips: FeatureSplit,
    *,
    seeds: int,
    folds: int,
    trunk: Trunk | None = None,
    finished: ResultFile | None = None,
    identity: object = None,
) -> Iterator[JudgedFold]:
    """Train and judge one fold after the other, as in `cross_validate`.

    Args:
        recipe: Every choice but the seed.
        clips: All clips, with their sources.
        seeds: How often everything is repeated.
        folds: Parts that the clips are split into.
        trunk: What the features are activations of, where the recipe trains blocks of the backbone.
        finished: Folds that are finished; each further one is added.
        identity: What the results depend on, JSON-ready.

    Raises:
        UserError: There are too few sources, or the data do not allow a training.
    """
    groups = groups_of(clips)
    for seed in range(seeds):
        seeded = recipe.varied(training={"seed": seed})
        for number, fold in enumerate(grouped_folds(clips.labels, groups, folds, seed)):
            name = [identity, folds, seed, number]
            known = finished.get(name) if finished else None
            if known is None:
                judged, decided = judge_fold(seeded, clips, fold, trunk)
                known = [judged.tolist(), decided.tolist()]
                if finished:
                    finished.put(name, known)
            yield JudgedFold(seed, fold.judged, np.array(known[0]), np.array(known[1], bool))


def groups_of(clips: FeatureSplit) -> npt.NDArray[np.str_]:
    """The source of each clip; where no source is known, each clip is its own."""
    return clips.groups if clips.groups is not None else np.arange(len(clips.labels)).astype(np.str_)


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
