"""The training loop: features in memory, one compiled graph an epoch, exact resume after any interruption."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from training.checkpoints import Checkpoint, CheckpointFolder
from training.classifier import build_classifier
from training.errors import DatasetError, RunError, require
from training.files import write_text
from training.frameworks import load_keras, load_tensorflow
from training.losses import balanced_weights, focal_loss
from training.progress import say, track
from training.recipe import Recipe

if TYPE_CHECKING:
    import keras
    import numpy.typing as npt

__all__ = ["EpochRecord", "FeatureSplit", "Trainer", "predict"]

_PREDICT_BATCH = 512


@dataclasses.dataclass(frozen=True)
class FeatureSplit:
    """One split of a data set, as the classifier sees it.

    Attributes:
        features: ``float16[N, T, F]``.
        labels: ``int64[N]``, 0 or 1.
    """

    features: npt.NDArray[np.float16]
    labels: npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class EpochRecord:
    """One row of the history."""

    epoch: int
    loss: float
    valid_loss: float
    valid_auc: float | None
    valid_accuracy: float
    learning_rate: float
    seconds: float

    @property
    def rank(self) -> tuple[float, float]:
        """Epochs are compared by validation AUC, then by validation loss."""
        return (0.0 if self.valid_auc is None else self.valid_auc, -self.valid_loss)


def predict(model: keras.Model, features: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float32]:
    """Runs a classifier in portions.

    Args:
        model: The classifier.
        features: ``[N, T, F]``.

    Returns:
        Probabilities ``float32[N, 2]``.
    """
    portions = [
        model(features[start : start + _PREDICT_BATCH].astype(np.float32), training=False).numpy()
        for start in range(0, len(features), _PREDICT_BATCH)
    ]
    return np.concatenate(portions)


class Trainer:
    """Trains a classifier on features.

    Args:
        recipe: Every choice.
        train: The training split.
        valid: The validation split, which decides when to stop and which epoch is the best.
        folder: Run folder for checkpoints, history and TensorBoard events.

    Raises:
        DatasetError: A class is missing from the training split, or the validation split is empty.
    """

    def __init__(self, recipe: Recipe, train: FeatureSplit, valid: FeatureSplit, folder: Path) -> None:
        if len(set(train.labels.tolist())) < 2:
            raise DatasetError("the training split holds one class only", "add clips of the other class")
        if not len(valid.labels):
            raise DatasetError(
                "the validation split is empty", "add clips, or give a larger share: --set data.split=[..]"
            )
        self.recipe, self.train_split, self.valid_split, self.folder = recipe, train, valid, folder
        self.checkpoints = CheckpointFolder(folder / "checkpoints")
        self.history: list[EpochRecord] = []
        self._tf, self._keras = load_tensorflow(), load_keras()
        self._keras.utils.set_random_seed(recipe.training.seed)
        self._tf.config.experimental.enable_op_determinism()
        frames, dim = train.features.shape[1:]
        self.model = build_classifier(frames, dim, recipe.model)
        self._steps = math.ceil(len(train.labels) / recipe.training.batch)
        self._class_weights = np.ones(2, np.float32)
        if recipe.loss.class_weights == "balanced":
            self._class_weights = np.asarray(balanced_weights(train.labels), np.float32)
        self._loss = focal_loss(self._alpha(), recipe.loss.gamma, recipe.loss.label_smoothing)
        self._optimizer = self._make_optimizer()
        self._epoch_function = self._compile()

    def fit(self) -> None:
        """Trains until the last epoch or until patience runs out, then puts the best epoch's weights into the model.

        Goes on from the newest checkpoint in the run folder, if there is one.

        Raises:
            RunError: The loss is not a number any more, or a checkpoint cannot be written.
        """
        done = self._resume()
        writer = self._tf.summary.create_file_writer(str(self.folder / "tensorboard"))
        epochs = self.recipe.training.epochs
        with track("train", epochs, "epochs") as step:
            step.advance(done)
            for epoch in range(done + 1, epochs + 1):
                if self._out_of_patience():
                    break
                record = self._run_epoch(epoch)
                improved = not self.history or record.rank > self.best.rank
                self.history.append(record)
                self._save(epoch, best=improved)
                self._log(writer, record)
                auc = "" if record.valid_auc is None else f" AUC {record.valid_auc:.4f}"
                step.advance(1, note=f"loss {record.loss:.4f} valid {record.valid_loss:.4f}{auc}")
        writer.close()
        best = self.checkpoints.best()
        _assign(self.model.variables, best.model)
        say(f"train: best epoch {best.epoch} of {len(self.history)}")

    def _alpha(self) -> tuple[float, float]:
        if self.recipe.loss.alpha != "balanced":
            return self.recipe.loss.alpha
        negative, positive = balanced_weights(self.train_split.labels)
        return negative / (negative + positive), positive / (negative + positive)

    def _make_optimizer(self) -> Any:
        section = self.recipe.optimizer
        warmup = round(section.warmup_epochs * self._steps)
        decay = max(self.recipe.training.epochs * self._steps - warmup, 1)
        schedule = self._keras.optimizers.schedules.CosineDecay(
            initial_learning_rate=section.learning_rate / (warmup + 1) if warmup else section.learning_rate,
            decay_steps=decay,
            alpha=section.floor,
            warmup_target=section.learning_rate if warmup else None,
            warmup_steps=warmup,
        )
        optimizer = self._keras.optimizers.AdamW(
            schedule, weight_decay=section.weight_decay, global_clipnorm=section.clip_norm
        )
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
        optimizer.build(self.model.trainable_variables)
        return optimizer

    def _compile(self) -> Any:
        tf = self._tf
        features = tf.constant(self.train_split.features)
        targets = tf.one_hot(self.train_split.labels, 2)
        weights = tf.gather(tf.constant(self._class_weights), self.train_split.labels)

        def step(rows: Any, mask: Any) -> Any:
            batch = tf.cast(tf.gather(features, rows), tf.float32)
            weight = tf.gather(weights, rows) * mask
            with tf.GradientTape() as tape:
                losses = self._loss(tf.gather(targets, rows), self.model(batch, training=True))
                loss = tf.reduce_sum(losses * weight) / tf.reduce_sum(mask)
            variables = self.model.trainable_variables
            self._optimizer.apply(tape.gradient(loss, variables), variables)
            return loss * tf.reduce_sum(mask)

        @tf.function  # type: ignore[untyped-decorator]
        def epoch(rows: Any, mask: Any) -> Any:
            total = tf.constant(0.0)
            for index in tf.range(self._steps):
                total += step(rows[index], mask[index])
            return total / tf.reduce_sum(mask)

        return epoch

    def _order(self, epoch: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
        """Row numbers of each batch, ``[steps, batch]``, drawn from (seed, epoch), and a mask that is 0 on padding."""
        count, batch = len(self.train_split.labels), self.recipe.training.batch
        order = np.random.default_rng((self.recipe.training.seed, epoch)).permutation(count)
        rows, mask = np.zeros(self._steps * batch, np.int32), np.zeros(self._steps * batch, np.float32)
        rows[:count], mask[:count] = order, 1
        return rows.reshape(self._steps, batch), mask.reshape(self._steps, batch)

    def _run_epoch(self, epoch: int) -> EpochRecord:
        started = time.perf_counter()
        rows, mask = self._order(epoch)
        loss = float(self._epoch_function(self._tf.constant(rows), self._tf.constant(mask)))
        probabilities = predict(self.model, self.valid_split.features)
        labels = self.valid_split.labels
        targets = np.eye(2, dtype=np.float32)[labels]
        valid_loss = float(np.mean(self._loss(targets, probabilities)))
        if not (math.isfinite(loss) and math.isfinite(valid_loss)):
            raise RunError(
                f"the loss of epoch {epoch} is not a number", "lower optimizer.learning_rate, or check the features"
            )
        auc = None
        if len(set(labels.tolist())) == 2:
            metrics = require("sklearn.metrics", extra="train", purpose="training")
            auc = float(metrics.roc_auc_score(labels, probabilities[:, 1]))
        return EpochRecord(
            epoch=epoch,
            loss=loss,
            valid_loss=valid_loss,
            valid_auc=auc,
            valid_accuracy=float(np.mean(probabilities.argmax(axis=1) == labels)),
            learning_rate=float(self._optimizer.learning_rate),
            seconds=time.perf_counter() - started,
        )

    @property
    def best(self) -> EpochRecord:
        """The epoch with the highest rank, the first of equals."""
        return max(self.history, key=lambda record: (record.rank, -record.epoch))

    def _out_of_patience(self) -> bool:
        return bool(self.history) and len(self.history) - self.best.epoch >= self.recipe.training.patience

    def _save(self, epoch: int, *, best: bool) -> None:
        checkpoint = Checkpoint(
            epoch=epoch,
            model=[variable.numpy() for variable in self.model.variables],
            optimizer=[variable.numpy() for variable in self._optimizer.variables],
            state={"history": [dataclasses.asdict(record) for record in self.history]},
        )
        self.checkpoints.save(checkpoint, best=best)
        write_text(self.folder / "history.csv", _history_csv(self.history))

    def _resume(self) -> int:
        checkpoint = self.checkpoints.latest()
        if checkpoint is None:
            return 0
        _assign(self.model.variables, checkpoint.model)
        _assign(self._optimizer.variables, checkpoint.optimizer)
        self.history = [EpochRecord(**values) for values in checkpoint.state["history"]]
        say(f"train: going on after epoch {checkpoint.epoch}")
        return checkpoint.epoch

    def _log(self, writer: Any, record: EpochRecord) -> None:
        with writer.as_default(step=record.epoch):
            for name, value in dataclasses.asdict(record).items():
                if name != "epoch" and value is not None:
                    self._tf.summary.scalar(name, value)
        writer.flush()


def _assign(variables: Sequence[Any], values: Sequence[npt.NDArray[Any]]) -> None:
    if [tuple(variable.shape) for variable in variables] != [value.shape for value in values]:
        raise RunError("a checkpoint does not fit the model of this recipe", "train into another folder")
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _history_csv(history: Sequence[EpochRecord]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in dataclasses.fields(EpochRecord)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(dataclasses.asdict(record) for record in history)
    return text.getvalue()
