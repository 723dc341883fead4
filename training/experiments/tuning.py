"""Search for a recipe with Optuna: TPE sampler, median pruner, grouped cross-validation; kept in SQLite to resume."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from training.engine.trainer import FeatureSplit
from training.experiments.folds import content_of, extract_folds, fold_count
from training.experiments.judged_folds import judge_folds
from training.experiments.search_space import suggest_recipe
from training.experiments.study_file import open_study
from training.experiments.trial_objective import Figures, objective
from training.methods.fine_tuning import trunk_of
from training.methods.self_supervised.trunk import trunk_identity
from training.recipe import Recipe, recipe_toml
from training.recipe_errors import first_message
from vdeploy.core.errors import RecipeError, StudyError, UserError
from vdeploy.core.files import write_text
from vdeploy.core.lazy_imports import require
from vdeploy.core.progress import say
from vdeploy.dataset import Dataset
from vdeploy.models.trunk import Trunk

__all__ = ["SearchResult", "search"]

STARTUP_TRIALS = 5
"""Trials that were trained to the end before one is pruned."""

FEWEST_FOR_IMPORTANCE = 4


@dataclasses.dataclass(frozen=True)
class SearchResult:
    """Result of a search.

    Attributes:
        trials: Finished trials in the study, pruned ones included.
        pruned: How many of them were pruned.
        recipe: The best recipe.
        parameters: Searched values that the best recipe takes.
        figures: Figures of the best trial.
        importance: Share of each parameter in the variance of the objective, highest first; empty with few trials.
    """

    trials: int
    pruned: int
    recipe: Recipe
    parameters: dict[str, Any]
    figures: Figures
    importance: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {**dataclasses.asdict(self), "recipe": self.recipe.model_dump(mode="json")}


def search(
    dataset: Dataset,
    models: Mapping[str, Recipe],
    store_root: Path,
    study_file: Path,
    best_file: Path,
    *,
    trials: int,
    seeds: int = 1,
    fixed: Collection[str] = (),
    strict: bool = False,
) -> SearchResult:
    """Runs trials until a study holds a number of finished ones; an interrupted search resumes.

    A trial is judged by cross-validation on the clips of all splits but the test split, all clips of a source on the
    same side, and reports after each fold. It is pruned where its best value so far is below the median of completed
    trials at that fold (Golovin et al. 2017, "Google Vizier", sec. 3.2.2). The sampler is seeded by the recipe's seed
    and the number of finished trials, so a resumed search gives the same result as an uninterrupted one.

    Args:
        dataset: The clips, scanned with the first recipe.
        models: Recipes by name, whose clips and backbones are tried.
        store_root: Folder of all feature stores.
        study_file: SQLite file of the study.
        best_file: The best recipe so far is written to this TOML file after every trial.
        trials: Number of finished trials in the study at the end, including earlier ones.
        seeds: How often the cross-validation of a trial is repeated.
        fixed: Keys that are not searched; see `training.experiments.search_space.suggest_recipe`.
        strict: Refuse clips that cannot be read instead of leaving them out.

    Returns:
        The best of all trials; the first one of several equal ones.

    Raises:
        MissingExtraError: Optuna is not installed.
        StudyError: The file is no study, belongs to other clips or another recipe, or cannot be written; or no trial
            could be finished.
        UserError: The data or the weights do not allow it.
    """
    optuna = require("optuna", extra="tune", purpose="vdeploy tune")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if any(recipe.distill.teacher for recipe in models.values()):
        raise RecipeError("a search cannot tell what a teacher has seen", 'set distill.teacher = ""')
    dataset = dataclasses.replace(dataset, clips=tuple(clip for clip in dataset.clips if clip.split != "test"))
    clips = _Clips(dataset, models, store_root, strict)
    folds = fold_count(dataset)
    identity = {
        "recipe": [[name, recipe.identity, *trunk_identity(recipe)] for name, recipe in models.items()],
        "data": clips.digest,
        "objective": ["cross-validation", folds, seeds, sorted(fixed)],
    }
    study = open_study(optuna, study_file, json.loads(json.dumps(identity)))
    study.pruner = optuna.pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS)
    seed = next(iter(models.values())).training.seed
    while (done := len(_finished(study))) < trials:
        study.sampler = optuna.samplers.TPESampler(seed=seed + done)
        trial = study.ask()
        outcome = _judge(trial, clips, models, fixed, folds=folds, seeds=seeds)
        say(f"trial {done + 1} of {trials}: {outcome}")
        if _completed(study):
            _write_best(best_file, _best(optuna, study, models, fixed))
    best = _best(optuna, study, models, fixed)
    _write_best(best_file, best)
    return dataclasses.replace(best, importance=_importance(optuna, study))


class _Clips:
    """The clips with the features of each model, extracted when it is first tried."""

    def __init__(self, dataset: Dataset, models: Mapping[str, Recipe], store_root: Path, strict: bool) -> None:
        self._dataset, self._store_root, self._strict = dataset, store_root, strict
        self._weights = {name: recipe.make_backbone().find_weights() for name, recipe in models.items()}
        self._loaded: dict[str, tuple[FeatureSplit, Trunk | None]] = {}
        text = json.dumps([content_of(dataset), [weights.sha256 for weights in self._weights.values()]])
        self.digest = hashlib.sha256(text.encode()).hexdigest()

    def of(self, name: str, recipe: Recipe) -> tuple[FeatureSplit, Trunk | None]:
        if name not in self._loaded:
            trunk = trunk_of(recipe, self._weights[name])
            _, clips = extract_folds(
                self._dataset, recipe, self._weights[name], self._store_root, trunk, strict=self._strict
            )
            self._loaded[name] = clips, trunk
        return self._loaded[name]


def _judge(
    trial: Any, clips: _Clips, models: Mapping[str, Recipe], fixed: Collection[str], *, folds: int, seeds: int
) -> str:
    """Run one trial, tell the study, and say what came out."""
    study = trial.study
    try:
        name, recipe, _ = suggest_recipe(trial, models, fixed)
    except ValidationError as error:
        return _given_up(trial, first_message(error))
    except RecipeError as error:
        return _given_up(trial, str(error))
    split, trunk = clips.of(name, recipe)
    scores = np.full((seeds, len(split.labels)), np.nan)
    try:
        for number, fold in enumerate(judge_folds(recipe, split, seeds=seeds, folds=folds, trunk=trunk)):
            scores[fold.seed, fold.clips] = fold.probabilities
            value, figures = objective(split.labels, scores)
            if math.isnan(value):
                continue
            trial.report(value, number)
            if number + 1 < folds * seeds and trial.should_prune():
                study.tell(trial, state=_pruned())
                return f"pruned after {number + 1} of {folds * seeds} folds at AUC {figures.roc_auc:.4f}"
    except UserError as error:
        return _given_up(trial, str(error))
    trial.set_user_attr("figures", dataclasses.asdict(figures))
    study.tell(trial, value)
    return f"AUC {figures.roc_auc:.4f}, log loss {figures.log_loss:.4f}"


def _given_up(trial: Any, reason: str) -> str:
    trial.set_user_attr("reason", reason)
    trial.study.tell(trial, state=_pruned())
    return f"pruned: {reason}"


def _pruned() -> Any:
    return require("optuna", extra="tune", purpose="vdeploy tune").trial.TrialState.PRUNED


def _finished(study: Any) -> list[Any]:
    return [trial for trial in study.get_trials(deepcopy=False) if trial.state.name in ("COMPLETE", "PRUNED")]


def _completed(study: Any) -> list[Any]:
    return [trial for trial in _finished(study) if trial.state.name == "COMPLETE"]


def _best(optuna: Any, study: Any, models: Mapping[str, Recipe], fixed: Collection[str]) -> SearchResult:
    completed, finished = _completed(study), _finished(study)
    if not completed:
        reason = next((trial.user_attrs["reason"] for trial in finished if "reason" in trial.user_attrs), "none ran")
        raise StudyError(f"no trial could be finished ({reason})", "give more clips, or more --trials")
    best = max(completed, key=lambda trial: (trial.value, -trial.number))
    _, recipe, parameters = suggest_recipe(optuna.trial.FixedTrial(best.params), models, fixed)
    return SearchResult(
        trials=len(finished),
        pruned=len(finished) - len(completed),
        recipe=recipe,
        parameters=parameters,
        figures=Figures(**best.user_attrs["figures"]),
        importance={},
    )


def _importance(optuna: Any, study: Any) -> dict[str, float]:
    """The share of each parameter in the variance of the objective of completed trials (Hutter et al. 2014, fANOVA)."""
    if len(_completed(study)) < FEWEST_FOR_IMPORTANCE:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {name: float(share) for name, share in shares.items()}


def _write_best(file: Path, best: SearchResult) -> None:
    try:
        write_text(file, recipe_toml(best.recipe))
    except OSError as error:
        raise StudyError(f"cannot write {file} ({error.strerror or error})", "choose another: --out FILE") from error
