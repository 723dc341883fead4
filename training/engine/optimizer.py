"""AdamW with clipping and loss scaling, each variable updated by one fused kernel inside the replica function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from training.recipe_sections import OptimizerSection
from vdeploy.core.lazy_imports import load_tensorflow

__all__ = ["AdamW", "assign", "read"]

_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-7
_FIRST_SCALE, _GROWTH_STEPS = 2.0**15, 2000


class AdamW:
    """Adam with decoupled weight decay, and dynamic loss scaling where the compute type asks for it.

    The update is that of `keras.optimizers.AdamW`: Kingma & Ba 2015, alg. 1 in the order of operations at the end of
    sec. 2, decay after Loshchilov & Hutter 2019, alg. 2, on matrices but not on biases, and gradients clipped together
    (Pascanu et al. 2013, alg. 1). It is written here because Keras' optimizer needs a cross-replica context, which does
    not exist in a loop of steps inside one graph, and because TensorFlow's fused kernel goes through memory once.

    With loss scaling (Micikevicius et al. 2018, sec. 3.2), gradients arrive multiplied by `loss_scale`. An update with
    gradients that are not finite is left out and halves the scale; 2000 good ones in a row double it.

    Args:
        weights: The variables to train, in the strategy's scope.
        section: Clipping and decay.
        schedule: Learning rate for a step, a Keras schedule.
        scaled: Whether the loss is scaled.
        shares: Learning rates of the first weights as shares of the schedule's, for a step; a weight whose share is 0
            stays as it is, to the bit.
    """

    def __init__(
        self,
        weights: Sequence[Any],
        section: OptimizerSection,
        schedule: Callable[[Any], Any],
        *,
        scaled: bool,
        shares: Callable[[Any], Sequence[Any] | None] = lambda _: None,
    ) -> None:
        tf: Any = load_tensorflow()
        self._weights, self._section, self._schedule, self._scaled = list(weights), section, schedule, scaled
        self._shares = shares
        self._first = [_variable(tf.zeros(weight.shape)) for weight in weights]
        self._second = [_variable(tf.zeros(weight.shape)) for weight in weights]
        self.step = _variable(tf.constant(0, tf.int64))
        self._scale = _variable(tf.constant(_FIRST_SCALE if scaled else 1.0))
        self._good = _variable(tf.constant(0, tf.int64))

    @property
    def variables(self) -> list[Any]:
        """The state: step, loss scale and its count of good steps, then both moments of each weight."""
        return [self.step, self._scale, self._good, *self._first, *self._second]

    def loss_scale(self) -> Any:
        """What the loss is to be multiplied by before its gradient is taken."""
        return read(self._scale)

    def apply(self, gradients: Sequence[Any]) -> None:
        """Updates the weights; to be called in a replica context, inside a graph.

        Args:
            gradients: float32, summed over replicas, multiplied by `loss_scale`.
        """
        tf: Any = load_tensorflow()
        scale, limit = self.loss_scale(), self._section.clip_norm
        norm = tf.sqrt(2 * tf.add_n([tf.nn.l2_loss(gradient) for gradient in gradients])) / scale
        changed = tf.logical_or(norm > limit, scale != 1)
        factor = limit / tf.maximum(norm, limit) / scale

        def update() -> None:
            self._update(
                tf.cond(changed, lambda: [gradient * factor for gradient in gradients], lambda: list(gradients))
            )

        if not self._scaled:
            update()
            return
        finite = tf.math.is_finite(norm)
        tf.cond(finite, update, lambda: None)
        good = tf.where(finite, read(self._good) + 1, tf.zeros((), tf.int64))
        grown = tf.cast(good >= _GROWTH_STEPS, tf.float32)
        assign(self._scale, scale * tf.where(finite, 1 + grown, 0.5))
        assign(self._good, tf.where(good >= _GROWTH_STEPS, tf.zeros((), tf.int64), good))

    def _update(self, gradients: Sequence[Any]) -> None:
        tf: Any = load_tensorflow()
        step = read(self.step)
        rate, count = tf.cast(self._schedule(step), tf.float32), tf.cast(step + 1, tf.float32)
        shares = self._shares(step) or []
        rates = [*(rate * share for share in shares), *[rate] * (len(self._weights) - len(shares))]
        for weight, first, second, gradient, rate in zip(
            self._weights, self._first, self._second, gradients, rates, strict=True
        ):
            if self._section.weight_decay and len(weight.shape) > 1:
                assign(weight, read(weight) * (1 - rate * self._section.weight_decay))
            tf.raw_ops.ResourceApplyAdam(
                var=weight.handle,
                m=first.handle,
                v=second.handle,
                beta1_power=tf.pow(_BETA_1, count),
                beta2_power=tf.pow(_BETA_2, count),
                lr=rate,
                beta1=_BETA_1,
                beta2=_BETA_2,
                epsilon=_EPSILON,
                grad=gradient,
            )
        assign(self.step, step + 1)


def read(variable: Any) -> Any:
    """The value of this replica's copy of a variable."""
    return load_tensorflow().raw_ops.ReadVariableOp(resource=variable.handle, dtype=variable.dtype)


def assign(variable: Any, value: Any) -> None:
    """Sets this replica's copy of a variable; all replicas do the same, so the copies stay equal."""
    load_tensorflow().raw_ops.AssignVariableOp(resource=variable.handle, value=value)


def _variable(value: Any) -> Any:
    return load_tensorflow().Variable(value, trainable=False)
