"""How a head is computed while it is trained: by its Keras model, or by a faster path of its own."""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from vdeploy.core.lazy_imports import load_tensorflow
from vdeploy.models.dtype_policy import dtype_policy

if TYPE_CHECKING:
    import keras

__all__ = ["KerasStep", "TrainingStep"]


class TrainingStep(abc.ABC):
    """The forward pass of a head for training.

    The training engine draws the randomness of a step once for the global batch, gathers the features of each
    replica's clips from a table, and asks for probabilities. Everything here is traced into one TensorFlow graph.

    Attributes:
        normalized: Whether features are normalised before the step takes them.
    """

    normalized: bool = True

    def learning_rates(self, step: Any) -> list[Any] | None:
        """Learning rates of the first weights as shares of the rate of the rest; ``None`` where all have the same.

        Args:
            step: Number of the step, a tensor.
        """
        del step
        return None

    @property
    def first_state(self) -> Sequence[Any]:
        """First values of what one step leaves to the next beside the weights, float32 tensors; most steps have none.

        Of several replicas, each number of the state is the largest that any of them has found.
        """
        return ()

    def advance(self, weights: Sequence[Any], state: Sequence[Any], features: Any, drawn: Any) -> tuple[Any, list[Any]]:
        """Compute the head's output and the state after it; see `probabilities`.

        Args:
            weights: The trainable variables of the head's model.
            state: What the step before has left.
            features: As `gather` returns them.
            drawn: What `of_replica` returned.

        Returns:
            ``float32[B, C]``, and the next state.
        """
        return self.probabilities(weights, features, drawn), list(state)

    def judged(self, model: keras.Model, state: Sequence[Any]) -> keras.Model:
        """Return the model that the validation split judges.

        Args:
            model: The head's model, with the weights that are to be judged.
            state: What the last step has left.
        """
        del state
        return model

    @abc.abstractmethod
    def draw(self, seed: Any, batch: int, dim: int) -> Any:
        """Draw the randomness of one step, for example what dropout leaves out.

        Args:
            seed: ``int32[2]``: the recipe's seed and the number of the step.
            batch: Clips of the global batch.
            dim: Features of a frame, F.

        Returns:
            A nest of tensors, or ``None``.
        """

    def of_replica(self, drawn: Any, clips: slice, replica: Any) -> Any:
        """Return the part of what was drawn that concerns one replica.

        Args:
            drawn: What `draw` returned.
            clips: The replica's share of the global batch.
            replica: Its number, a tensor or an integer.
        """
        del clips, replica
        return drawn

    def gather(self, table: Any, rows: Any, drawn: Any) -> Any:
        """Gather features of clips from a table of features, normalised if the step takes them so.

        Args:
            table: ``[N, F]``.
            rows: ``int32[t, B]``.
            drawn: What `draw` returned.

        Returns:
            ``[t, B, F]``; fewer features where the step leaves some out.
        """
        del drawn
        return load_tensorflow().gather(table, rows)

    def leave_out(self, features: Any, drawn: Any) -> Any:
        """Drop from ``[t, B, F]`` what `gather` would have left out."""
        del drawn
        return features

    @abc.abstractmethod
    def probabilities(self, weights: Sequence[Any], features: Any, drawn: Any) -> Any:
        """Compute the head's output.

        Args:
            weights: The trainable variables of the head's model, in their order, float32.
            features: ``[t, B, F]`` in the compute type, as `gather` returns them.
            drawn: What `of_replica` returned.

        Returns:
            ``float32[B, C]``.
        """


class KerasStep(TrainingStep):
    """The step of any head: a copy of its Keras model, called without state.

    Dropout inside the model is seeded by the recipe's seed, the number of the step and the replica, so that an
    interrupted training resumes exactly. Each replica draws for its own share; a batch on several devices therefore
    sees other dropout than on one.

    Args:
        build: Builds the model for features as the step takes them: ``[B, t, F]`` to probabilities ``[B, C]``.
        dtype: Compute type, ``"float32"``, ``"bfloat16"`` or ``"float16"``.
        normalized: Whether features are normalised before the step takes them.
    """

    def __init__(self, build: Callable[[], keras.Model], dtype: str, *, normalized: bool = True) -> None:
        self.normalized = normalized
        with dtype_policy(dtype):
            self._model: Any = build()
        generators = {id(variable) for variable in self._model.weights}
        self._seeds = [v for v in self._model.non_trainable_variables if id(v) not in generators]
        if len(self._seeds) != len(self._model.non_trainable_variables):
            raise ValueError("a head must not hold weights that are not trained, such as a batch normalisation's")

    def draw(self, seed: Any, batch: int, dim: int) -> Any:
        """Return the seed itself; the model draws from it."""
        del batch, dim
        return seed

    def of_replica(self, drawn: Any, clips: slice, replica: Any) -> Any:
        """Return a seed of the replica's own."""
        del clips
        tf: Any = load_tensorflow()
        return drawn + tf.stack([tf.cast(replica, drawn.dtype) * 1_000_003, 0])

    def probabilities(self, weights: Sequence[Any], features: Any, drawn: Any) -> Any:
        """Compute the model's output; see `TrainingStep.probabilities`."""
        tf: Any = load_tensorflow()
        seeds = [
            tf.cast(drawn + tf.constant([0, 7919 * number], drawn.dtype), variable.dtype)
            for number, variable in enumerate(self._seeds)
        ]
        clips = tf.transpose(features, (1, 0, 2))
        output, _ = self._model.stateless_call(list(weights), seeds, clips, training=True)
        return tf.cast(output, tf.float32)
