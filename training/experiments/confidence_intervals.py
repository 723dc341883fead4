"""Mean over seeds with a confidence interval."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from vdeploy.core.lazy_imports import require

__all__ = ["Mean", "mean_over_seeds"]


@dataclasses.dataclass(frozen=True)
class Mean:
    """A mean with its 95 % interval.

    Attributes:
        value: The mean.
        half_width: Half the width of the interval; ``None`` with fewer than two values.
    """

    value: float
    half_width: float | None

    def __str__(self) -> str:
        return f"{self.value:.4f}" + ("" if self.half_width is None else f" ± {self.half_width:.4f}")


def mean_over_seeds(values: Sequence[float]) -> Mean:
    """Mean and the half width of Student's 95 % interval, t(0.975, n - 1) s / sqrt(n) (Student 1908).

    The interval covers what the seeds vary, such as initial weights and the order of clips, not the choice of clips.

    Args:
        values: One figure for each of n > 0 seeds.
    """
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return Mean(mean, None)
    stats = require("scipy.stats", extra="train", purpose="an interval")
    quantile = float(stats.t.ppf(0.975, len(values) - 1))
    return Mean(mean, quantile * float(np.std(values, ddof=1)) / math.sqrt(len(values)))
