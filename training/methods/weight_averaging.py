"""Exponential moving average of the weights, which is judged and kept in place of the last weights.

Steps of a training jump about the minimum; their average lies closer to it and is a cheap ensemble (Polyak & Juditsky
1992; Izmailov et al. 2018, "Averaging Weights Leads to Wider Optima and Better Generalization"). The exponential form
(Tarvainen & Valpola 2017, "Mean Teachers Are Better Role Models", sec. 2) needs no phase of its own, and its state is
one more copy of the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from training.engine.optimizer import assign, read
from vdeploy.core.lazy_imports import load_tensorflow

__all__ = ["AveragedWeights"]


class AveragedWeights:
    """The average of the weights after each step, in which a step counts ``decay`` times as much as the next one.

    After t steps, average = (1 - d) / (1 - d^t) * sum over i of d^(t - i) w_i: the moving average with the correction
    for its start of Kingma & Ba 2015, sec. 3, so that the first weights, which are random, have no part in it.

    Args:
        weights: The variables to average, in the strategy's scope.
        decay: d, from above 0 to below 1.
    """

    def __init__(self, weights: Sequence[Any], decay: float) -> None:
        tf: Any = load_tensorflow()
        self._weights, self._decay = list(weights), decay
        self._averages = [tf.Variable(tf.zeros(weight.shape), trainable=False) for weight in weights]
        self._steps = tf.Variable(tf.constant(0, tf.int64), trainable=False)

    @property
    def averages(self) -> list[Any]:
        """One variable for each weight."""
        return self._averages

    @property
    def variables(self) -> list[Any]:
        """The state: the averages, then the number of steps."""
        return [*self._averages, self._steps]

    def update(self) -> None:
        """Takes the present weights into the average; to be called in a replica context, inside a graph."""
        tf: Any = load_tensorflow()
        steps = read(self._steps) + 1
        decay = tf.constant(self._decay, tf.float64)
        share = tf.cast((1 - decay) / (1 - tf.pow(decay, tf.cast(steps, tf.float64))), tf.float32)
        for average, weight in zip(self._averages, self._weights, strict=True):
            before = read(average)
            assign(average, before + share * (read(weight) - before))
        assign(self._steps, steps)
