"""Hyperparameter search with Optuna's TPE sampler, stored in SQLite so that it can be resumed."""

from __future__ import annotations

import dataclasses
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from training.experiments.data import StudyData
from training.experiments.single_run import Figures, train_once
from training.recipe import Recipe, recipe_toml
from vdeploy.core.errors import StudyError
from vdeploy.core.files import write_text
from vdeploy.core.lazy_imports import require
from vdeploy.core.progress import say

__all__ = ["SearchResult", "objective", "search"]

_STUDY = "vdeploy"
_IDENTITY = "identity"


@dataclasses.dataclass(frozen=True)
class SearchResult:
    """Result of a search.

    Attributes:
        trials: Finished trials in the study.
        recipe: The best recipe.
        parameters: Searched values of the best trial.
        figures: Figures of the best trial on the validation split.
    """

    trials: int
    recipe: Recipe
    parameters: dict[str, float]
    figures: Figures

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {**dataclasses.asdict(self), "recipe": self.recipe.model_dump(mode="json")}


def search(
    data: StudyData,
    recipe: Recipe,
    study_file: Path,
    best_file: Path,
    *,
    trials: int,
    train: Callable[[Recipe, StudyData, Path], Figures] = train_once,
) -> SearchResult:
    """Runs trials until a study holds a number of finished ones; an interrupted search resumes.

    The sampler is seeded by the recipe's seed and the number of finished trials, so a resumed search gives the same
    result as an uninterrupted one. Every trial trains with the recipe's seed and is evaluated on the validation split.

    Args:
        data: The features.
        recipe: Settings that are not searched.
        study_file: SQLite file of the study.
        best_file: The best recipe so far is written to this TOML file after every trial.
        trials: Number of finished trials in the study at the end, including earlier ones.
        train: Trains one recipe in a folder.

    Returns:
        The best of all trials; the first one of several equal ones.

    Raises:
        MissingExtraError: Optuna is not installed.
        StudyError: The file is no study, belongs to other clips or another recipe, or cannot be written.
        UserError: As for `train_once`.
    """
    optuna = require("optuna", extra="tune", purpose="vdeploy tune")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    data = dataclasses.replace(data, judged=data.valid, judged_split="valid")
    study = _open(optuna, study_file, recipe, data)
    while (done := len(_finished(study))) < trials:
        study.sampler = optuna.samplers.TPESampler(seed=recipe.training.seed + done)
        trial = study.ask()
        chosen = _suggest(trial, recipe)
        with tempfile.TemporaryDirectory(prefix="vdeploy-tune-") as folder:
            figures = train(chosen, data, Path(folder))
        trial.set_user_attr("figures", dataclasses.asdict(figures))
        study.tell(trial, objective(figures, data.valid.labels.tolist()))
        best = _best(study, recipe)
        _write_best(best_file, best)
        say(f"trial {done + 1} of {trials}: {_summary(figures)}; best: {_summary(best.figures)}")
    best = _best(study, recipe)
    _write_best(best_file, best)
    return best


def objective(figures: Figures, labels: list[int]) -> float:
    """Returns the validation AUC, with ties broken in favour of the lower log loss.

    The AUC of P violent and N other clips is a multiple of 1 / (2 P N), because a tie counts half, so a smaller term
    orders only trainings with equal AUC.

    Args:
        figures: Figures on the validation split.
        labels: Labels of that split.

    Raises:
        StudyError: The split holds one class only.
    """
    if figures.roc_auc is None:
        raise StudyError("the validation split holds one class only: there is no AUC to search for", "add clips to it")
    positives = sum(labels)
    step = 1 / (2 * positives * (len(labels) - positives))
    return figures.roc_auc - step / 2 * figures.log_loss / (1 + figures.log_loss)


_OF_HEAD: dict[str, Callable[[Any], Any]] = {
    "units": lambda trial: trial.suggest_categorical("units", [32, 64, 128, 256]),
    "dense": lambda trial: trial.suggest_categorical("dense", [32, 64, 128]),
    "dropout": lambda trial: trial.suggest_float("dropout", 0.0, 0.7),
}
"""Settings of heads that are searched, where the recipe's head has them."""


def _suggest(trial: Any, recipe: Recipe) -> Recipe:
    epochs = recipe.training.epochs
    return recipe.varied(
        head={name: suggest(trial) for name, suggest in _OF_HEAD.items() if name in type(recipe.head).model_fields},
        loss={
            "gamma": trial.suggest_float("gamma", 0.0, 4.0),
            "label_smoothing": trial.suggest_float("label_smoothing", 0.0, 0.2),
        },
        optimizer={
            "learning_rate": trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True),
            "weight_decay": trial.suggest_float("weight_decay", 1e-6, 1e-1, log=True),
            "warmup_epochs": epochs * trial.suggest_float("warmup_share", 0.0, 0.2),
        },
        training={"batch": trial.suggest_categorical("batch", [16, 32, 64, 128])},
    )


def _open(optuna: Any, file: Path, recipe: Recipe, data: StudyData) -> Any:
    identity = {"recipe": recipe.identity, "data": data.digest}
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        _check_header(file)
        study = optuna.create_study(
            storage=f"sqlite:///{file.absolute()}", study_name=_STUDY, direction="maximize", load_if_exists=True
        )
        known = study.user_attrs.get(_IDENTITY)
        if known is None:
            study.set_user_attr(_IDENTITY, identity)
    except (OSError, sqlite3.Error, optuna.exceptions.StorageInternalError) as error:
        raise StudyError(f"{file} cannot be used as a study ({error})", "choose another: --study FILE") from error
    if known not in (None, identity):
        what = "other clips" if known["data"] != data.digest else "another recipe"
        raise StudyError(f"{file} is a study of {what}", "choose another: --study FILE")
    return study


def _check_header(file: Path) -> None:
    if file.exists():
        with file.open("rb") as content:
            if content.read(16) not in (b"", b"SQLite format 3\0"):
                raise OSError("it is no SQLite file")


def _finished(study: Any) -> list[Any]:
    return [trial for trial in study.get_trials(deepcopy=False) if trial.state.name == "COMPLETE"]


def _best(study: Any, recipe: Recipe) -> SearchResult:
    finished = _finished(study)
    best = max(finished, key=lambda trial: (trial.value, -trial.number))
    return SearchResult(
        trials=len(finished),
        recipe=_suggest(best, recipe),
        parameters=dict(best.params),
        figures=Figures(**best.user_attrs["figures"]),
    )


def _write_best(file: Path, best: SearchResult) -> None:
    try:
        write_text(file, recipe_toml(best.recipe))
    except OSError as error:
        raise StudyError(f"cannot write {file} ({error.strerror or error})", "choose another: --out FILE") from error


def _summary(figures: Figures) -> str:
    return f"AUC {figures.roc_auc:.4f}, log loss {figures.log_loss:.4f}"
