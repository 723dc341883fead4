"""Logistic regression with an L2 penalty, fitted exactly on standardised statistics of clips."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from vdeploy.core.lazy_imports import require

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

__all__ = ["LinearFit", "StandardizedBasis"]

_EPSILON = 1e-6


@dataclasses.dataclass(frozen=True)
class LinearFit:
    """A linear classifier: the logit of violence is ``x @ weights + bias``.

    Attributes:
        weights: ``float64[D]``.
        bias: The intercept.
    """

    weights: Floats
    bias: float

    def probabilities(self, x: Floats) -> Floats:
        """Probabilities of violence, ``float64[N]``, of statistics ``[N, D]``."""
        logits = x @ self.weights + self.bias
        probabilities: Floats = np.exp(-np.logaddexp(0, -logits))
        return probabilities


class StandardizedBasis:
    """Standardised statistics of clips, in the space that they span.

    The penalty makes the weights a combination of the clips, so that N clips need N weights however many statistics
    there are, and all penalties share one decomposition.

    Args:
        x: Statistics, ``float64[N, D]``.
        targets: Probabilities of violence to learn, ``float64[N]``.
        sample_weights: ``float64[N]``.
    """

    def __init__(self, x: Floats, targets: Floats, sample_weights: Floats) -> None:
        deviation = x.std(axis=0)
        self._mean = x.mean(axis=0)
        # A statistic that never varies tells nothing; its weight stays 0.
        self._scale = np.where(deviation > _EPSILON, 1 / np.maximum(deviation, _EPSILON), 0.0)
        with _one_thread():
            left, values, self._axes = np.linalg.svd((x - self._mean) * self._scale, full_matrices=False)
        self._x = left * values
        self._targets, self._weights = targets, sample_weights / sample_weights.sum()

    def fit(self, penalty: float) -> LinearFit:
        """Minimise the weighted log loss plus the penalty by L-BFGS."""
        optimize: Any = require("scipy.optimize", extra="train", purpose="training")

        def loss(values: Floats) -> tuple[float, Floats]:
            weights, bias = values[:-1], values[-1]
            logits = self._x @ weights + bias
            errors = self._weights * (np.exp(-np.logaddexp(0, -logits)) - self._targets)
            gradient = np.append(self._x.T @ errors + penalty * weights, errors.sum())
            terms = np.logaddexp(0, logits) - self._targets * logits
            return float(self._weights @ terms + penalty / 2 * weights @ weights), gradient

        start = np.zeros(self._x.shape[1] + 1)
        with _one_thread():
            found = optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 2000, "gtol": 1e-7})
        weights = (found.x[:-1] @ self._axes) * self._scale
        return LinearFit(weights, float(found.x[-1] - self._mean @ weights))


def _one_thread() -> contextlib.AbstractContextManager[Any]:
    """Has linear algebra use one thread.

    These matrices are too small to share: beside other programs, threads that wait for one another made it ten times
    slower.
    """
    limit: contextlib.AbstractContextManager[Any] = _thread_pools().limit(limits=1, user_api="blas")
    return limit


@functools.cache
def _thread_pools() -> Any:
    """Those of the numerical libraries that this process has loaded."""
    return require("threadpoolctl", extra="train", purpose="training").ThreadpoolController()
