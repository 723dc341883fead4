"""The compiled training loop: an epoch is one call, whatever the number of devices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from training.engine.epoch_plan import EpochPlan
from training.engine.optimizer import AdamW, assign, read
from training.engine.precision import Precision
from training.engine.replicas import local_value, maximum_over_replicas, sum_over_replicas
from training.methods.weight_averaging import AveragedWeights
from training.recipe import Recipe
from vdeploy.core.errors import RecipeError, RunError
from vdeploy.core.lazy_imports import load_tensorflow
from vdeploy.models.normalization import normalize
from vdeploy.models.training_step import TrainingStep

if TYPE_CHECKING:
    import keras
    import numpy as np
    import numpy.typing as npt

__all__ = ["Trainable", "TrainingLoop"]


_COMPILED_FROM = 128
"""Clips of a replica's share from which XLA is worth its overhead for parts of a head's step, such as a recurrence."""


class Trainable(Protocol):
    """What can be trained on rows of features: a `vdeploy.models.base.Head`, or one with more before it."""

    def build(self, shape: tuple[int, int]) -> keras.Model:
        """Build the Keras model for features of a shape, (t, F)."""

    def training_step(self, shape: tuple[int, int], dtype: str, *, compiled: bool = False) -> TrainingStep:
        """Return how it is computed while it is trained."""


class TrainingLoop:
    """Weights, optimizer and the graph that goes through the steps of a table.

    Every replica takes its share of each global batch, sums its gradients, and gets the sum over all replicas in one
    collective operation; each then updates its own copy of the weights in the same way. XLA, where it is used, compiles
    forward and backward pass; collectives and optimizer stay outside, as compiled functions cannot hold them. Dropout
    is drawn for the global batch, so that one device and several compute the same.

    Args:
        head: What is trained.
        shape: Shape of a clip's features, (t, F).
        weights: First values of the weights of the head's model.
        recipe: Optimizer and training sections apply.
        loss: Targets and probabilities, ``[B, 2]`` each, to losses ``[B]``.
        schedule: Learning rate for a step.
        strategy: A ``tf.distribute.Strategy``.
        precision: How to compute.

    Raises:
        RecipeError: The batch cannot be divided among the replicas.
    """

    def __init__(
        self,
        head: Trainable,
        shape: tuple[int, int],
        weights: Sequence[npt.NDArray[np.float32]],
        recipe: Recipe,
        loss: Callable[[Any, Any], Any],
        schedule: Callable[[Any], Any],
        strategy: Any,
        precision: Precision,
    ) -> None:
        tf: Any = load_tensorflow()
        self._recipe, self._loss, self._schedule = recipe, loss, schedule
        self._strategy, self._precision = strategy, precision
        self._share, rest = divmod(recipe.training.batch, strategy.num_replicas_in_sync)
        if rest:
            raise RecipeError(
                f"training.batch = {recipe.training.batch} cannot be divided among "
                f"{strategy.num_replicas_in_sync} devices",
                "choose a multiple",
            )
        allowed = recipe.training.xla is not False and not precision.xla
        compiled = allowed and self._share >= _COMPILED_FROM
        self._step = head.training_step(shape, precision.dtype, compiled=compiled)
        with strategy.scope():
            self._weights = [tf.Variable(value, trainable=False) for value in weights]
            self._state = [tf.Variable(value, trainable=False) for value in self._step.first_state]
            self._optimizer = AdamW(
                self._weights, recipe.optimizer, schedule, scaled=precision.scaled, shares=self._step.learning_rates
            )
            decay = recipe.averaging.decay
            self._average = AveragedWeights(self._weights, decay) if decay else None
        self._gradients = (
            tf.function(self._sum_gradients, autograph=False, jit_compile=True)
            if precision.xla
            else self._sum_gradients
        )
        self._steps = tf.function(self._run_steps, autograph=False, reduce_retracing=True)

    @property
    def takes_normalized(self) -> bool:
        """Whether tables in a compute type of two bytes hold normalised features."""
        return self._step.normalized

    @property
    def learning_rate(self) -> float:
        """The rate of the next step."""
        return float(self._schedule(local_value(self._strategy, self._optimizer.step)))

    def run(self, table: Any, plan: EpochPlan) -> npt.NDArray[np.float32]:
        """Takes all steps of a plan.

        Args:
            table: ``[clips * V * T, F]``: float16, or normalised in a compute type of two bytes.
            plan: Steps whose rows are clips of the table.

        Returns:
            The sum of the weighted losses of each step's clips, ``float32[S]``.
        """
        tf: Any = load_tensorflow()
        values = (plan.table_rows(), plan.partner, plan.share, plan.targets, plan.weights, plan.counts)
        steps = [None if value is None else tf.constant(value) for value in values]
        losses: npt.NDArray[np.float32] = self._steps(self._on_every_device(table), *steps).numpy()
        return losses

    def weights(self) -> list[npt.NDArray[np.float32]]:
        """The weights as they are now."""
        return [local_value(self._strategy, variable) for variable in self._weights]

    def judged_weights(self) -> list[npt.NDArray[np.float32]]:
        """The weights that are judged and kept: their moving average, or without one the weights as they are now."""
        if self._average is None:
            return self.weights()
        return [local_value(self._strategy, variable) for variable in self._average.averages]

    def judged(self, model: keras.Model) -> keras.Model:
        """The model that the validation split judges, for the head's model with `judged_weights`."""
        return self._step.judged(model, [local_value(self._strategy, variable) for variable in self._state])

    def average_state(self) -> list[npt.NDArray[Any]]:
        """The state of the moving average; nothing without one."""
        variables = [] if self._average is None else self._average.variables
        return [local_value(self._strategy, variable) for variable in variables]

    def optimizer_state(self) -> list[npt.NDArray[Any]]:
        """Everything else that the next step depends on: the state of the optimizer, then that of the step."""
        return [local_value(self._strategy, variable) for variable in (*self._optimizer.variables, *self._state)]

    def restore(
        self,
        weights: Sequence[npt.NDArray[Any]],
        optimizer_state: Sequence[npt.NDArray[Any]],
        average_state: Sequence[npt.NDArray[Any]],
    ) -> None:
        """Goes back to what `weights`, `optimizer_state` and `average_state` returned.

        Raises:
            RunError: The values are those of another model.
        """
        averaged = [] if self._average is None else self._average.variables
        variables = [*self._weights, *self._optimizer.variables, *self._state, *averaged]
        values = [*weights, *optimizer_state, *average_state]
        if [tuple(variable.shape) for variable in variables] != [value.shape for value in values]:
            raise RunError("a checkpoint does not fit the model of this recipe", "train into another folder")
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)

    def _on_every_device(self, table: Any) -> Any:
        tf: Any = load_tensorflow()
        devices = self._strategy.extended.worker_devices
        if len(devices) == 1:
            return table
        copies = iter(devices)

        def copy(_: Any) -> Any:
            with tf.device(next(copies)):
                return tf.identity(table)

        return self._strategy.experimental_distribute_values_from_function(copy)

    def _run_steps(self, table: Any, rows: Any, partner: Any, share: Any, *batches: Any) -> Any:
        tf: Any = load_tensorflow()

        def step(index: Any, losses: Any) -> tuple[Any, Any]:
            mixing = None if partner is None else (partner[index], share[index])
            arguments = (table, rows[index], mixing, *(values[index] for values in batches))
            loss = self._strategy.run(self._replica_step, args=arguments)
            return index + 1, losses.write(index, self._strategy.experimental_local_results(loss)[0])

        steps = tf.shape(rows)[0]
        state = (tf.constant(0), tf.TensorArray(tf.float32, steps, element_shape=()))
        return tf.while_loop(lambda index, _: index < steps, step, state, parallel_iterations=1)[1].stack()

    def _replica_step(self, table: Any, rows: Any, mixing: Any, targets: Any, weights: Any, count: Any) -> Any:
        """Takes one step; ``rows`` is ``int32[T, B]``, and B counts the clips of all replicas."""
        tf: Any = load_tensorflow()
        replica = tf.distribute.get_replica_context()
        first = replica.replica_id_in_sync_group * self._share
        mine = slice(first, first + self._share)
        step = read(self._optimizer.step)
        seed = tf.stack([self._recipe.training.seed, tf.cast(step, tf.int32)])
        drawn = self._step.draw(seed, self._recipe.training.batch, table.shape[-1])
        features = self._gather(table, rows[:, mine], drawn)
        if mixing is not None:
            partner, share = mixing[0][mine], tf.cast(mixing[1][mine], features.dtype)[None, :, None]
            other = self._gather(table, tf.gather(rows, partner, axis=1), drawn)
            features = share * features + (1 - share) * other
        drawn = self._step.of_replica(drawn, mine, replica.replica_id_in_sync_group)
        values, state = [read(weight) for weight in self._weights], [read(variable) for variable in self._state]
        scale = self._optimizer.loss_scale() / count
        gradients, loss, state = self._gradients(values, state, features, drawn, targets[mine], weights[mine], scale)
        if self._strategy.num_replicas_in_sync > 1:
            gradients, loss = sum_over_replicas(replica, gradients, loss)
            state = maximum_over_replicas(replica, state) if state else state
        self._optimizer.apply(gradients)
        for variable, value in zip(self._state, state, strict=True):
            assign(variable, value)
        if self._average is not None:
            self._average.update()
        return loss

    def _gather(self, table: Any, rows: Any, drawn: Any) -> Any:
        """Features of clips, ``[t, B, F]`` or fewer where the step leaves some out, as it takes them."""
        if self._precision.dtype != "float32":
            return self._step.gather(table, rows, drawn)
        tf: Any = load_tensorflow()
        features = tf.gather(table, rows)
        features = normalize(features, "float32") if self._step.normalized else tf.cast(features, tf.float32)
        return self._step.leave_out(features, drawn)

    def _sum_gradients(
        self, values: Any, state: Any, features: Any, drawn: Any, targets: Any, weights: Any, scale: Any
    ) -> tuple[Any, Any, Any]:
        """Gradients of the scaled loss of this replica's clips, the sum of their losses, and the state after them."""
        tf: Any = load_tensorflow()
        with tf.GradientTape() as tape:
            tape.watch(values)
            outputs, state = self._step.advance(values, state, features, drawn)
            loss = tf.reduce_sum(self._loss(targets, outputs) * weights)
            scaled = loss * scale
        return tape.gradient(scaled, values), loss, state
