"""The loss of VICReg: two views of one window shall be alike, and those of different windows shall not.

Bardes, Ponce & LeCun 2022, "VICReg: Variance-Invariance-Covariance Regularization for Self-Supervised Learning". With
the embeddings Z and Z' of two views, ``[n, d]`` each,

    v(Z)     = 1/d sum_j max(0, 1 - sqrt(Var(z^j) + eps))                     eq. 1 and 2
    C(Z)     = 1/(n - 1) sum_i (z_i - mean) (z_i - mean)^T                    eq. 3
    c(Z)     = 1/d sum_(i != j) C(Z)_ij^2                                     eq. 4
    s(Z, Z') = 1/(n d) sum_i |z_i - z'_i|^2                                   eq. 5
    loss     = lambda s(Z, Z') + mu (v(Z) + v(Z')) + nu (c(Z) + c(Z'))        eq. 6

Eq. 5 has no 1/d; the pseudo-code of the paper's appendix A has it, and the weights 25, 25 and 1 are meant for that.
Variances are divided by n - 1, as covariances are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from training.recipe_sections import PretrainSection
from vdeploy.core.lazy_imports import load_tensorflow

__all__ = ["paired_loss", "vicreg"]

_EPSILON = 1e-4


def vicreg(one: Any, other: Any, section: PretrainSection) -> Any:
    """Compute the loss of a batch.

    Args:
        one: Embeddings of one view of each window, ``float32[n, d]``, n at least 2.
        other: Those of the other view.
        section: The weights of the three terms.

    Returns:
        A scalar.
    """
    tf: Any = load_tensorflow()
    invariance = tf.reduce_mean(tf.math.squared_difference(one, other))
    variance, covariance = (
        sum(terms) for terms in zip(*(_regularization(embeddings) for embeddings in (one, other)), strict=True)
    )
    return section.invariance * invariance + section.variance * variance + section.covariance * covariance


def paired_loss(section: PretrainSection) -> Callable[[Any, Any], Any]:
    """Make a loss that `training.engine.loop.TrainingLoop` takes.

    On several devices, variances and covariances are those of a device's share of the batch.

    Args:
        section: The weights of the three terms.

    Returns:
        Targets, which are not looked at, and embeddings ``[2 n, d]``, the two views of a window one after the other, to
        losses ``[2 n]``: that of the whole batch, over and over.
    """

    def loss(targets: Any, embeddings: Any) -> Any:
        del targets
        tf: Any = load_tensorflow()
        value = vicreg(embeddings[0::2], embeddings[1::2], section)
        return tf.fill(tf.shape(embeddings)[:1], value)

    return loss


def _regularization(embeddings: Any) -> tuple[Any, Any]:
    """The variance term v and the covariance term c of the embeddings of one view."""
    tf: Any = load_tensorflow()
    count, width = embeddings.shape
    centred = embeddings - tf.reduce_mean(embeddings, axis=0)
    covariances = tf.matmul(centred, centred, transpose_a=True) / (count - 1)
    deviations = tf.sqrt(tf.linalg.diag_part(covariances) + _EPSILON)
    others = tf.linalg.set_diag(covariances, tf.zeros(width))
    return tf.reduce_mean(tf.nn.relu(1 - deviations)), tf.reduce_sum(tf.square(others)) / width
