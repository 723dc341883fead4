"""One training of a study, and what it was worth."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from training.evaluation import Evaluation, evaluate
from training.frameworks import load_keras
from training.recipe import Recipe
from training.studies.data import StudyData
from training.trainer import FeatureSplit, Trainer, predict

__all__ = ["Figures", "train_once"]

THRESHOLD = 0.5
"""Clips are judged at this probability: every training of a study is to be measured by one rule."""


@dataclasses.dataclass(frozen=True)
class Figures:
    """What one training was worth on the clips that it is judged on.

    Attributes:
        accuracy: Share of clips put in the right class at a threshold of 0.5, without calibration.
        accuracy_non_violent: The same among non-violent clips; ``None`` if there are none.
        accuracy_violent: The same among violent clips; ``None`` if there are none.
        roc_auc: Area under the ROC curve; ``None`` with one class only.
        log_loss: Mean negative log likelihood in nats.
        epochs: Epochs that were trained.
        best_epoch: The epoch whose weights were kept.
        seconds: Duration of the epochs.
    """

    accuracy: float
    accuracy_non_violent: float | None
    accuracy_violent: float | None
    roc_auc: float | None
    log_loss: float
    epochs: int
    best_epoch: int
    seconds: float


def train_once(recipe: Recipe, data: StudyData, folder: Path, *, train: FeatureSplit | None = None) -> Figures:
    """Trains one classifier and measures it.

    Args:
        recipe: Every choice, the seed among them.
        data: The features.
        folder: Where checkpoints go; a training that was interrupted there goes on.
        train: What to learn from instead of ``data.train``.

    Raises:
        UserError: The data do not allow a training, its loss is not a number, or the disk is full.
    """
    load_keras().utils.clear_session()
    trainer = Trainer(recipe, data.train if train is None else train, data.valid, folder)
    trainer.fit()
    evaluation: Evaluation = evaluate(
        data.judged.labels, predict(trainer.model, data.judged.features)[:, 1], threshold=THRESHOLD, bootstrap=0
    )
    return Figures(
        accuracy=evaluation.accuracy,
        accuracy_non_violent=evaluation.accuracy_non_violent,
        accuracy_violent=evaluation.accuracy_violent,
        roc_auc=evaluation.roc_auc,
        log_loss=evaluation.log_loss,
        epochs=len(trainer.history),
        best_epoch=trainer.best.epoch,
        seconds=sum(record.seconds for record in trainer.history),
    )
