"""Training: epochs, validation, the best epoch, and exact resume after any interruption."""

from __future__ import annotations

import dataclasses
import functools
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from training.engine.checkpoints import Checkpoint, CheckpointFolder
from training.engine.device_batches import Tables
from training.engine.devices import is_chief, open_strategy
from training.engine.epoch_plan import FeatureSplit, check_splits, plan_epoch
from training.engine.history import EpochRecord, history_csv
from training.engine.loop import Trainable, TrainingLoop
from training.engine.losses import class_weights, focal_alpha, focal_loss
from training.engine.precision import choose_precision
from training.engine.schedule import learning_rate_schedule
from training.methods.class_balanced_sampling import class_pools, drawn_labels
from training.methods.confident_learning import LabelAudit
from training.methods.curriculum import TEACHER, easiest, pace
from training.methods.distillation.loss import distillation_loss
from training.methods.self_supervised.trunk import start_from_trunk
from training.methods.teacher import label_losses, teacher_probabilities
from training.recipe import Recipe
from vdeploy.core.errors import RunError
from vdeploy.core.files import write_text
from vdeploy.core.lazy_imports import load_keras, load_tensorflow, require
from vdeploy.core.progress import say, track
from vdeploy.features.prediction import predict

if TYPE_CHECKING:
    import keras
    import numpy.typing as npt

__all__ = ["EpochRecord", "FeatureSplit", "Trainer"]


class Trainer:
    """Trains a classifier on features.

    Args:
        recipe: Every choice.
        train: The training split; its features may have several views of each clip.
        valid: The validation split, which decides when to stop and which epoch is the best.
        folder: Run folder for checkpoints, history and TensorBoard events. Workers on several machines share it; the
            first of them writes.
        strategy: What `training.engine.devices.open_strategy` gave; called here if left out.
        head: What is trained; the recipe's head if left out.

    Attributes:
        model: The classifier, float32 whatever the training computes in.
        history: One record of each epoch.
        audit: What was found out about the labels, where the recipe asks; set by `make_trainer`.
        held_out: ``None``: clips that choose the calibration and the threshold come from the validation split.

    Raises:
        DatasetError: A class is missing from the training split, or the validation split is empty.
        RecipeError: A device is missing, or the batch cannot be divided among the devices.
    """

    audit: LabelAudit | None = None
    held_out: None = None

    def __init__(
        self,
        recipe: Recipe,
        train: FeatureSplit,
        valid: FeatureSplit,
        folder: Path,
        strategy: Any = None,
        head: Trainable | None = None,
    ) -> None:
        check_splits(train, valid)
        if not recipe.distill.teacher:
            train = dataclasses.replace(train, soft=None)
        self.recipe, self.train_split, self.valid_split, self.folder = recipe, train, valid, folder
        self.checkpoints = CheckpointFolder(folder / "checkpoints")
        self.history: list[EpochRecord] = []
        self._tf = load_tensorflow()
        strategy, self._writes = strategy or open_strategy(recipe.training.devices), is_chief()
        self._difficulty = self._cross_fitted_losses(strategy)
        load_keras().utils.set_random_seed(recipe.training.seed)
        self._tf.config.experimental.enable_op_determinism()
        frames, dim = train.features.shape[-2:]
        head, shape = head or recipe.make_head(), (frames, dim)
        self.model = head.build(shape)
        start_from_trunk(recipe, self.head)
        drawn = drawn_labels(recipe.sampling, train.labels[train.is_labelled])
        self._class_weights = np.asarray(class_weights(recipe.loss.class_weights, drawn), np.float32)
        alpha = focal_alpha(recipe.loss.alpha, drawn)
        self._loss = focal_loss(alpha, recipe.loss.gamma, recipe.loss.label_smoothing)
        learned = self._loss if train.soft is None else distillation_loss(self._loss, recipe.distill)
        precision = choose_precision(recipe.training)
        steps = math.ceil(len(train.labels) / recipe.training.batch)
        schedule = learning_rate_schedule(recipe, steps)
        self._loop = TrainingLoop(head, shape, self.model.get_weights(), recipe, learned, schedule, strategy, precision)
        limit, normalized = recipe.training.memory_limit_gb * 1e9, self._loop.takes_normalized
        self._tables = Tables(train, recipe.training.batch, precision.dtype, limit, normalized=normalized)
        self._best_weights = self._loop.weights()
        where = f"{strategy.num_replicas_in_sync} devices" if strategy.num_replicas_in_sync > 1 else "one device"
        say(f"train: {precision} on {where}, features {'in memory' if self._tables.resident else 'streamed'}")

    def fit(self) -> None:
        """Trains until the last epoch or until patience runs out, then puts the best epoch's weights into the model.

        Goes on from the newest checkpoint in the run folder, if there is one.

        Raises:
            RunError: The loss is not a number any more, or a checkpoint cannot be written.
        """
        done = self._resume()
        epochs = self.recipe.training.epochs
        with track("train", epochs, "epochs") as step:
            step.advance(done)
            for epoch in range(done + 1, epochs + 1):
                if self._out_of_patience():
                    break
                record = self._run_epoch(epoch)
                improved = not self.history or record.rank > self.best.rank
                self.history.append(record)
                if improved:
                    self._best_weights = self._loop.judged_weights()
                if self._writes:
                    self._save(epoch, best=improved)
                    self._log(record)
                auc = "" if record.valid_auc is None else f" AUC {record.valid_auc:.4f}"
                step.advance(1, note=f"loss {record.loss:.4f} valid {record.valid_loss:.4f}{auc}")
        self.model.set_weights(self._best_weights)
        say(f"train: best epoch {self.best.epoch} of {len(self.history)}")

    def _cross_fitted_losses(self, strategy: Any) -> npt.NDArray[np.float64] | None:
        """How hard each clip is, ``float64[N]``, where a curriculum asks."""
        if self.recipe.curriculum.pacing == "none":
            return None
        probabilities = teacher_probabilities(
            self.train_split,
            self.folder / TEACHER,
            seed=self.recipe.training.seed,
            otherwise='curriculum.pacing = "none"',
            strategy=strategy,
        )
        return label_losses(self.train_split.labels, probabilities)

    def _pools(self, epoch: int) -> Sequence[npt.NDArray[np.int64]] | None:
        """The clips that an epoch draws from, each pool equally often; ``None``: every clip once."""
        pools: Sequence[npt.NDArray[np.int64]] = class_pools(self.train_split.labels)
        if self._difficulty is not None:
            pools = easiest(pools, self._difficulty, pace(self.recipe.curriculum, epoch))
        if self.recipe.sampling.balance == "classes":
            return pools
        return None if self._difficulty is None else [np.concatenate(pools)]

    def _train_epoch(self, epoch: int) -> float:
        """Takes all steps of an epoch and returns the mean loss."""
        training = self.recipe.training
        plan = plan_epoch(
            self.train_split,
            (training.seed, epoch),
            training.batch,
            self._class_weights,
            self.recipe.augment,
            self._pools(epoch),
        )
        losses = np.concatenate([self._loop.run(table, part) for table, part in self._tables.of(plan)])
        return float(losses.sum(dtype=np.float64)) / len(self.train_split.labels)

    def _run_epoch(self, epoch: int) -> EpochRecord:
        started = time.perf_counter()
        loss = self._train_epoch(epoch)
        self.model.set_weights(self._loop.judged_weights())
        probabilities = predict(self._loop.judged(self.model), self.valid_split.features)
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
            learning_rate=self._loop.learning_rate,
            seconds=time.perf_counter() - started,
        )

    @property
    def head(self) -> keras.Model:
        """The classifier without what is trained before it."""
        name = self.recipe.make_head().model_name
        if self.model.name == name:
            return self.model
        head: keras.Model = self.model.get_layer(name)
        return head

    @property
    def best(self) -> EpochRecord:
        """The epoch with the highest rank, the first of equals."""
        return max(self.history, key=lambda record: (record.rank, -record.epoch))

    def _out_of_patience(self) -> bool:
        return bool(self.history) and len(self.history) - self.best.epoch >= self.recipe.training.patience

    def _save(self, epoch: int, *, best: bool) -> None:
        checkpoint = Checkpoint(
            epoch=epoch,
            model=self._loop.weights(),
            optimizer=self._loop.optimizer_state(),
            average=self._loop.average_state(),
            state={"history": [dataclasses.asdict(record) for record in self.history]},
        )
        self.checkpoints.save(checkpoint, best=best)
        write_text(self.folder / "history.csv", history_csv(self.history))

    def _resume(self) -> int:
        checkpoint = self.checkpoints.latest()
        if checkpoint is None:
            return 0
        self._loop.restore(checkpoint.model, checkpoint.optimizer, checkpoint.average)
        best = self.checkpoints.best()
        self._best_weights = (best.average or best.model)[: len(best.model)]
        self.history = [EpochRecord(**values) for values in checkpoint.state["history"]]
        say(f"train: going on after epoch {checkpoint.epoch}")
        return checkpoint.epoch

    @functools.cached_property
    def _events(self) -> Any:
        return self._tf.summary.create_file_writer(str(self.folder / "tensorboard"))

    def _log(self, record: EpochRecord) -> None:
        with self._events.as_default(step=record.epoch):
            for name, value in dataclasses.asdict(record).items():
                if name != "epoch" and value is not None:
                    self._tf.summary.scalar(name, value)
        self._events.flush()
