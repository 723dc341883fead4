"""The loss of distillation: cross-entropy with the labels and with the softened probabilities of a teacher.

Hinton, Vinyals & Dean 2015, "Distilling the Knowledge in a Neural Network", sec. 2: with logits z of the student and v
of the teacher, both are softened by a temperature T, and

    loss = (1 - w) * hard(labels, softmax(z)) + w * T^2 * cross_entropy(softmax(v / T), softmax(z / T))

The factor T^2 keeps the gradients of the soft targets, which scale as 1 / T^2, in proportion when T changes. Logits are
the logarithms of probabilities, which softmax takes as well: a constant added to all of them changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from training.recipe_sections import DistillSection
from vdeploy.core.lazy_imports import load_tensorflow

__all__ = ["distillation_loss"]

_TINY = 1e-7


def distillation_loss(hard: Callable[[Any, Any], Any], section: DistillSection) -> Callable[[Any, Any], Any]:
    """Add soft targets to a loss.

    Args:
        hard: The loss of labels: one-hot ``[B, 2]`` and probabilities ``[B, 2]`` to losses ``[B]``.
        section: Temperature and weight.

    Returns:
        A loss of targets ``[B, 4]``, the labels and then the teacher's probabilities, and probabilities ``[B, 2]``. The
        labels of a clip add up to the share of it that is labelled, 0 where no label is known.
    """

    def loss(targets: Any, probabilities: Any) -> Any:
        tf: Any = load_tensorflow()
        labels, soft = targets[:, :2], targets[:, 2:]
        labelled = tf.reduce_sum(labels, axis=-1)
        own = labelled * hard(labels / tf.maximum(labelled, _TINY)[:, None], probabilities)
        given = tf.nn.softmax(tf.math.log(tf.maximum(soft, _TINY)) / section.temperature)
        found = tf.nn.log_softmax(tf.math.log(tf.maximum(probabilities, _TINY)) / section.temperature)
        taught = -tf.reduce_sum(given * found, axis=-1) * section.temperature**2
        return (1 - section.weight) * own + section.weight * taught

    return loss
