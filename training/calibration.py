"""Whether a probability means what it says, and the one number that mends it.

After Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks", ICML 2017.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from training.errors import require

__all__ = [
    "BINS",
    "Reliability",
    "apply_temperature",
    "fit_temperature",
    "log_loss",
    "reliability",
]

BINS = 15
"""Equal-width bins of the expected calibration error, as in Guo et al."""

TEMPERATURE_RANGE = (0.1, 10.0)
"""Where a temperature is looked for."""

_EPSILON = 1e-7

Floats = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Reliability:
    """Confidence against accuracy, bin by bin.

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


def reliability(labels: npt.ArrayLike, probabilities: npt.ArrayLike, *, bins: int = BINS) -> Reliability:
    """Sorts predictions by confidence into equal-width bins of [0, 1] and compares the two in each.

    Args:
        labels: int[N], 1 for violent, 0 for not; N > 0.
        probabilities: float[N] in [0, 1], of the violent class.
        bins: How many bins.

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
    """Mean negative log likelihood in nats, with probabilities kept 1e-7 away from 0 and 1.

    Args:
        labels: int[N], 1 for violent, 0 for not; N > 0.
        probabilities: float[N] in [0, 1], of the violent class.
    """
    return _loss(_signs(labels) * _logits(probabilities))


def fit_temperature(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> float:
    """Finds the temperature T that minimises the log loss of ``sigmoid(logit(p) / T)`` (section 4.2).

    T > 1 makes an overconfident model modest, T < 1 a timid one bold; the more probable class stays the same. Where
    every clip already is on the right side of 0.5, the likelihood grows without end as T falls, which says nothing
    about confidence; T stays 1 then.

    Args:
        labels: int[N], 1 for violent, 0 for not; N > 0. Held-out clips, not those that the model learned from.
        probabilities: float[N] in [0, 1], of the violent class.

    Returns:
        T within [0.1, 10]; never one with a higher log loss than 1.

    Raises:
        MissingExtraError: SciPy is not installed.
    """
    margins = _signs(labels) * _logits(probabilities)
    if margins.min() > 0:
        return 1.0
    optimize: Any = require("scipy.optimize", extra="train", purpose="calibration")
    low, high = TEMPERATURE_RANGE
    found = optimize.minimize_scalar(
        lambda log_t: _loss(margins / math.exp(log_t)),
        bounds=(math.log(low), math.log(high)),
        method="bounded",
    )
    temperature = math.exp(float(found.x))
    return temperature if _loss(margins / temperature) < _loss(margins) else 1.0


def apply_temperature(probabilities: npt.ArrayLike, temperature: float) -> Floats:
    """Divides the logits of probabilities by a temperature.

    Args:
        probabilities: float[...] in [0, 1], of the violent class; kept 1e-7 away from 0 and 1.
        temperature: T > 0.

    Returns:
        float64 of the same shape: ``sigmoid(logit(p) / T)``.

    Raises:
        ValueError: The temperature is not a positive finite number.
    """
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"temperature must be positive, not {temperature}")
    scaled: Floats = np.exp(-np.logaddexp(0, -_logits(probabilities) / temperature))
    return scaled


def _logits(probabilities: npt.ArrayLike) -> Floats:
    p = np.clip(np.asarray(probabilities, dtype=np.float64), _EPSILON, 1 - _EPSILON)
    logits: Floats = np.log(p) - np.log1p(-p)
    return logits


def _signs(labels: npt.ArrayLike) -> Floats:
    return np.where(np.asarray(labels) == 1, 1.0, -1.0)


def _loss(margins: Floats) -> float:
    return float(np.logaddexp(0, -margins).mean())
