"""What the replicas of a training exchange: sums of gradients, and the largest values of a state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vdeploy.core.lazy_imports import load_tensorflow

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["local_value", "maximum_over_replicas", "sum_over_replicas"]


def sum_over_replicas(replica: Any, gradients: Sequence[Any], loss: Any) -> tuple[list[Any], Any]:
    """Sums everything over all replicas in a single collective operation.

    Args:
        replica: The context of this replica.
        gradients: Gradients of this replica's clips.
        loss: The sum of their losses.
    """
    tf: Any = load_tensorflow()
    flat = tf.concat([*(tf.reshape(gradient, (-1,)) for gradient in gradients), loss[None]], axis=0)
    *parts, total = _parts(replica.all_reduce("SUM", flat), [*gradients, loss])
    return parts, total


def maximum_over_replicas(replica: Any, values: Sequence[Any]) -> list[Any]:
    """Finds the largest of each number over all replicas, in a single collective operation.

    Collectives have no maximum. Each replica adds its numbers to zeros of the others, so that all have all of them.

    Args:
        replica: The context of this replica.
        values: Tensors of the same shapes in every replica.
    """
    tf: Any = load_tensorflow()
    flat = tf.concat([tf.reshape(value, (-1,)) for value in values], axis=0)
    row = tf.one_hot(replica.replica_id_in_sync_group, replica.num_replicas_in_sync)
    rows = tf.where(row[:, None] > 0, flat, 0.0)
    return _parts(tf.reduce_max(replica.all_reduce("SUM", rows), axis=0), values)


def local_value(strategy: Any, variable: Any) -> npt.NDArray[Any]:
    """The value of the first copy of a variable in this process; all copies are equal.

    Args:
        strategy: A ``tf.distribute.Strategy``.
        variable: A variable of its scope.
    """
    value: npt.NDArray[Any] = strategy.experimental_local_results(variable)[0].numpy()
    return value


def _parts(flat: Any, alike: Sequence[Any]) -> list[Any]:
    """A row of numbers in the shapes of other tensors."""
    tf: Any = load_tensorflow()
    parts = tf.split(flat, [int(np.prod(value.shape)) for value in alike])
    return [tf.reshape(part, value.shape) for part, value in zip(parts, alike, strict=True)]
