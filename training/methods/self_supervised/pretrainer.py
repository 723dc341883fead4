"""Pre-training of a trunk: epochs, checkpoints, and exact resume after any interruption."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from training.engine.checkpoints import Checkpoint, CheckpointFolder
from training.engine.device_batches import Tables
from training.engine.devices import open_strategy
from training.engine.epoch_plan import FeatureSplit
from training.engine.loop import TrainingLoop
from training.engine.precision import choose_precision
from training.engine.schedule import learning_rate_schedule
from training.methods.self_supervised.vicreg import paired_loss
from training.methods.self_supervised.views import EXPANDER_WEIGHTS, EmbeddedTrunk, plan_pairs
from training.recipe import Recipe
from vdeploy.core.errors import DatasetError, RecipeError, RunError
from vdeploy.core.lazy_imports import load_keras, load_tensorflow
from vdeploy.core.progress import say, track
from vdeploy.features.rows import FeatureRows

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Pretrainer", "refuse_linear_head"]


def refuse_linear_head(recipe: Recipe) -> None:
    """Refuse a head that has nothing before its logits to train.

    Raises:
        RecipeError: The head is linear.
    """
    if recipe.make_head().linear:
        raise RecipeError(
            f"a {recipe.head.name} head without a dense layer has no trunk to pre-train",
            "choose another, for example: --set head.name=gru",
        )


def _whole_shares(batch: int, devices: int) -> int:
    """Windows of a batch, rounded down so that all devices take as many; both views of a window stay on one device.

    Raises:
        RecipeError: A device would take one window or none, and a loss that compares windows needs two.
    """
    if batch < 2 * devices:
        raise RecipeError(
            f"a batch of {batch} windows is too small for {devices} devices, each of which compares at least two",
            "raise pretrain.batch, give more footage, or name one device in training.devices",
        )
    return batch - batch % devices


class Pretrainer:
    """Trains the trunk of a recipe's head by VICReg.

    Several devices share each batch, which is rounded down to a multiple of their number.

    Args:
        recipe: Its sections ``head`` and ``pretrain`` apply, of ``training`` the seed, what to compute with and the
            memory limit, and of ``optimizer`` all but the learning rate.
        windows: Features of windows, ``float16[N, t, F]``.
        folder: Folder of the checkpoints.

    Attributes:
        history: The mean loss of each epoch.

    Raises:
        DatasetError: There are fewer than two windows.
        RecipeError: The head has no trunk, a device is missing, or a batch has less than two windows for each.
    """

    def __init__(self, recipe: Recipe, windows: FeatureRows, folder: Path) -> None:
        refuse_linear_head(recipe)
        section, count, shape = recipe.pretrain, len(windows), (windows.shape[-2], windows.shape[-1])
        if count < 2:
            raise DatasetError("fewer than two windows are nothing to learn from", "give more footage")
        self._section, self._windows, self._shape, self._seed = section, count, shape, recipe.training.seed
        strategy = open_strategy(recipe.training.devices)
        self._batch = _whole_shares(min(section.batch, count), strategy.num_replicas_in_sync)
        self._checkpoints, self.history = CheckpointFolder(folder / "checkpoints"), list[float]()
        load_keras().utils.set_random_seed(self._seed)
        load_tensorflow().config.experimental.enable_op_determinism()
        own = recipe.varied(
            training={"batch": 2 * self._batch, "epochs": section.epochs},
            optimizer={"learning_rate": section.learning_rate},
            averaging={"decay": 0.0},
        )
        network, precision = EmbeddedTrunk(recipe.make_head(), section), choose_precision(own.training)
        first, schedule = network.build(shape).get_weights(), learning_rate_schedule(own, count // self._batch)
        self._loop = TrainingLoop(network, shape, first, own, paired_loss(section), schedule, strategy, precision)
        split = FeatureSplit(windows, np.zeros(count, np.int64))
        limit = own.training.memory_limit_gb * 1e9
        self._tables = Tables(split, own.training.batch, precision.dtype, limit)

    def fit(self) -> list[npt.NDArray[np.float32]]:
        """Train to the last epoch, from the newest checkpoint on if there is one.

        Returns:
            The weights of the trunk.

        Raises:
            RunError: The loss is not a number any more, or a checkpoint cannot be written.
        """
        with track("pretrain", self._section.epochs, "epochs") as step:
            step.advance(done := self._resume())
            for epoch in range(done + 1, self._section.epochs + 1):
                loss = self._run_epoch(epoch)
                if not math.isfinite(loss):
                    raise RunError(f"the loss of epoch {epoch} is not a number", "lower pretrain.learning_rate")
                self.history.append(loss)
                state: dict[str, Any] = {"history": self.history}
                weights, optimizer = self._loop.weights(), self._loop.optimizer_state()
                self._checkpoints.save(Checkpoint(epoch, weights, optimizer, state), best=False)
                step.advance(1, note=f"loss {loss:.4f}")
        return self._loop.weights()[:-EXPANDER_WEIGHTS]

    def _run_epoch(self, epoch: int) -> float:
        plan = plan_pairs(self._windows, self._shape[0], (self._seed, epoch), self._batch, self._section.shortest)
        losses = np.concatenate([self._loop.run(table, part) for table, part in self._tables.of(plan)])
        return float(losses.sum(dtype=np.float64) / plan.counts.sum())

    def _resume(self) -> int:
        if (checkpoint := self._checkpoints.latest()) is None:
            return 0
        self._loop.restore(checkpoint.model, checkpoint.optimizer, [])
        self.history = list(checkpoint.state["history"])
        say(f"pretrain: going on after epoch {checkpoint.epoch}")
        return checkpoint.epoch
