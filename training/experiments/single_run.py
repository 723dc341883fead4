"""One training of a study and its figures."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from training.engine.choose_trainer import make_trainer
from training.engine.trainer import FeatureSplit
from training.experiments.data import StudyData
from training.recipe import Recipe
from vdeploy.core.lazy_imports import load_keras
from vdeploy.evaluation.calibration import fit_calibration
from vdeploy.evaluation.metrics import Evaluation, evaluate
from vdeploy.features.prediction import predict

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Figures", "cross_calibrated", "train_once"]

THRESHOLD = 0.5
"""Decision threshold, the same for all trainings of a study."""


@dataclasses.dataclass(frozen=True)
class Figures:
    """Figures of one training on the evaluated clips.

    Attributes:
        accuracy: Share of clips put in the right class at a threshold of 0.5, without calibration.
        accuracy_non_violent: The same among non-violent clips; ``None`` if there are none.
        accuracy_violent: The same among violent clips; ``None`` if there are none.
        roc_auc: Area under the ROC curve; ``None`` with one class only.
        calibrated_accuracy: Accuracy at a threshold of 0.5 after the calibration that ``vdeploy train`` applies: fitted
            on the validation split or, if that is evaluated, on the other half of its clips.
        calibrated_non_violent: The same among non-violent clips; ``None`` if there are none.
        calibrated_violent: The same among violent clips; ``None`` if there are none.
        log_loss: Mean negative log likelihood in nats.
        epochs: Epochs that were trained.
        best_epoch: The epoch whose weights were kept.
        seconds: Duration of the epochs.
    """

    accuracy: float
    accuracy_non_violent: float | None
    accuracy_violent: float | None
    roc_auc: float | None
    calibrated_accuracy: float
    calibrated_non_violent: float | None
    calibrated_violent: float | None
    log_loss: float
    epochs: int
    best_epoch: int
    seconds: float


def train_once(recipe: Recipe, data: StudyData, folder: Path, *, train: FeatureSplit | None = None) -> Figures:
    """Trains one classifier and evaluates it.

    Args:
        recipe: All settings, including the seed.
        data: The features.
        folder: Folder of the checkpoints, from which an interrupted training resumes.
        train: Training split, as `StudyData.seen_by` gives it; all of it by default.

    Raises:
        UserError: The data cannot be trained on, the loss is not a number, or the disk is full.
    """
    load_keras().utils.clear_session()
    data = data.seen_by(recipe)
    trainer = make_trainer(recipe, data.train if train is None else train, data.valid, folder, trunk=data.trunk)
    trainer.fit()
    scores = predict(trainer.model, data.judged.features)[:, 1]
    evaluation: Evaluation = evaluate(data.judged.labels, scores, threshold=THRESHOLD, bootstrap=0)
    if data.judged_split == "valid":
        mended = cross_calibrated(data.judged.labels, scores)
    else:
        valid = predict(trainer.model, data.valid.features)[:, 1]
        mended = fit_calibration(data.valid.labels, valid).apply(scores)
    calibrated = evaluate(data.judged.labels, mended, threshold=THRESHOLD, bootstrap=0)
    return Figures(
        accuracy=evaluation.accuracy,
        accuracy_non_violent=evaluation.accuracy_non_violent,
        accuracy_violent=evaluation.accuracy_violent,
        roc_auc=evaluation.roc_auc,
        calibrated_accuracy=calibrated.accuracy,
        calibrated_non_violent=calibrated.accuracy_non_violent,
        calibrated_violent=calibrated.accuracy_violent,
        log_loss=evaluation.log_loss,
        epochs=len(trainer.history),
        best_epoch=trainer.best.epoch,
        seconds=sum(record.seconds for record in trainer.history),
    )


def cross_calibrated(labels: npt.NDArray[np.int64], probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Calibrates each half of the clips with a calibration fitted on the other half.

    Args:
        labels: int[N], 1 for violent.
        probabilities: float[N], of the violent class.

    Returns:
        float64[N]. The clips of each class alternate between the halves.
    """
    half = np.empty(len(labels), np.int64)
    for label in (0, 1):
        members = np.flatnonzero(labels == label)
        half[members] = np.arange(len(members)) % 2
    mended = np.empty(len(labels))
    for mine in (0, 1):
        fitted = fit_calibration(labels[half != mine], probabilities[half != mine])
        mended[half == mine] = fitted.apply(probabilities[half == mine])
    return mended
