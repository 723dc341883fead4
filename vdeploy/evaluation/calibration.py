"""Calibration of probabilities by a temperature and a bias, and its error.

After Platt, "Probabilistic Outputs for Support Vector Machines", 1999, and Guo, Pleiss, Sun and Weinberger, "On
Calibration of Modern Neural Networks", ICML 2017, for the temperature.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from vdeploy.core.lazy_imports import require

__all__ = [
    "BINS",
    "Calibration",
    "Reliability",
    "fit_calibration",
    "log_loss",
    "reliability",
]

BINS = 15
"""Equal-width bins of the expected calibration error, as in Guo et al."""

TEMPERATURE_RANGE = (0.1, 10.0)
"""Bounds of the fitted temperature."""

BIAS_RANGE = (-10.0, 10.0)
"""Bounds of the fitted bias divided by the temperature."""

_EPSILON = 1e-7

Floats = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Reliability:
    """Confidence and accuracy by bin.

    The prediction is the more probable of the two classes and the confidence is its probability, so confidences lie
    in [0.5, 1] and bins below that stay empty.

    Attributes:
        edges: float64[B + 1], borders of the bins; a bin holds ``edges[b] < confidence <= edges[b + 1]``.
        counts: int64[B], clips per bin.
        confidence: float64[B], mean confidence per bin; NaN where a bin is empty.
        accuracy: float64[B], share of right predictions per bin; NaN where a bin is empty.
    """

    edges: Floats
    counts: npt.NDArray[np.int64]
    confidence: Floats
    accuracy: Floats

    @property
    def error(self) -> float:
        """Expected calibration error, equation 3: the mean gap between accuracy and confidence, weighted by count."""
        used = self.counts > 0
        gaps = np.abs(self.accuracy[used] - self.confidence[used])
        return float(gaps @ self.counts[used] / self.counts.sum())


@dataclasses.dataclass(frozen=True)
class Calibration:
    """A calibration of probabilities: ``sigmoid((logit(p) + bias) / temperature)``.

    Attributes:
        temperature: T > 1 lowers the confidence, T < 1 raises it.
        bias: b > 0 raises the probability of violence; the logit ``-b`` becomes a probability of 0.5.

    Raises:
        ValueError: The temperature is not a positive finite number, or the bias is not finite.
    """

    temperature: float = 1.0
    bias: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise ValueError(f"temperature must be positive, not {self.temperature}")
        if not math.isfinite(self.bias):
            raise ValueError(f"bias must be finite, not {self.bias}")

    def apply(self, probabilities: npt.ArrayLike) -> Floats:
        """Calibrates probabilities.

        Args:
            probabilities: float[...] in [0, 1], of the violent class; kept 1e-7 away from 0 and 1.

        Returns:
            float64 of the same shape.
        """
        calibrated: Floats = np.exp(-np.logaddexp(0, -(_logits(probabilities) + self.bias) / self.temperature))
        return calibrated


def reliability(labels: npt.ArrayLike, probabilities: npt.ArrayLike, *, bins: int = BINS) -> Reliability:
    """Compares confidence and accuracy in equal-width bins of confidence.

    Args:
        labels: int[N], 1 for violent, 0 for not; N > 0.
        probabilities: float[N] in [0, 1], of the violent class.
        bins: Number of bins.

    Returns:
        The bins, whose `Reliability.error` is the expected calibration error.
    """
    violent = np.asarray(labels) == 1
    p = np.asarray(probabilities, dtype=np.float64)
    right = (p >= 0.5) == violent
    confidence = np.maximum(p, 1 - p)
    edges = np.linspace(0, 1, bins + 1)
    index = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    counts = np.bincount(index, minlength=bins)
    divisor = np.where(counts > 0, counts, np.nan)
    return Reliability(
        edges=edges,
        counts=counts,
        confidence=np.bincount(index, weights=confidence, minlength=bins) / divisor,
        accuracy=np.bincount(index, weights=right, minlength=bins) / divisor,
    )


def log_loss(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> float:
    """Returns the mean negative log likelihood in nats, with probabilities kept 1e-7 away from 0 and 1.

    Args:
        labels: int[N], 1 for violent, 0 for not; N > 0.
        probabilities: float[N] in [0, 1], of the violent class.
    """
    return _loss(_signs(labels) * _logits(probabilities))


def fit_calibration(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> Calibration:
    """Fits the temperature T and the bias b that minimise the log loss of ``sigmoid((logit(p) + b) / T)``.

    This is Platt's sigmoid. A temperature alone (Guo et al., section 4.2) cannot correct a classifier whose
    probabilities are all too high or too low, which is common in the epoch with the best AUC, because AUC depends on
    their order only.
    As in Platt's section 2.2, targets are smoothed: ``(n1 + 1/2) / (n1 + 1)`` and ``(1/2) / (n0 + 1)``. This is the
    estimate under Jeffreys' prior (Krichevsky and Trofimov 1981); Platt's uniform prior keeps the probabilities of a
    good classifier too far from 0 and 1.

    Args:
        labels: int[N], 1 for violent, 0 for not; N > 0. Held-out clips, not training clips.
        probabilities: float[N] in [0, 1], of the violent class.

    Returns:
        The calibration with T within [0.1, 10]; the identity where all labels are equal.

    Raises:
        MissingExtraError: SciPy is not installed.
    """
    violent, logits = np.asarray(labels) == 1, _logits(probabilities)
    ones, zeros = int(violent.sum()), int((~violent).sum())
    if not (ones and zeros):
        return Calibration()
    optimize: Any = require("scipy.optimize", extra="train", purpose="calibration")
    targets = np.where(violent, (ones + 0.5) / (ones + 1), 0.5 / (zeros + 1))

    def loss(values: Floats) -> tuple[float, Floats]:
        margins = values[0] * logits + values[1]
        errors = np.exp(-np.logaddexp(0, -margins)) - targets
        gradient = np.array([errors @ logits, errors.sum()]) / len(logits)
        return float((np.logaddexp(0, margins) - targets * margins).mean()), gradient

    low, high = TEMPERATURE_RANGE
    found = optimize.minimize(
        loss, (1.0, 0.0), jac=True, method="L-BFGS-B", bounds=((1 / high, 1 / low), BIAS_RANGE), tol=1e-10
    )
    slope, intercept = map(float, found.x)
    return Calibration(temperature=1 / slope, bias=intercept / slope)


def _logits(probabilities: npt.ArrayLike) -> Floats:
    p = np.clip(np.asarray(probabilities, dtype=np.float64), _EPSILON, 1 - _EPSILON)
    logits: Floats = np.log(p) - np.log1p(-p)
    return logits


def _signs(labels: npt.ArrayLike) -> Floats:
    return np.where(np.asarray(labels) == 1, 1.0, -1.0)


def _loss(margins: Floats) -> float:
    return float(np.logaddexp(0, -margins).mean())
