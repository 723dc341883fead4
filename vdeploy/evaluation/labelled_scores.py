"""Validation of labels and probabilities."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["check_scores"]


def check_scores(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
    """Validates labels and probabilities.

    Args:
        labels: int[N], 1 for violent, 0 for not; N > 0.
        probabilities: float[N] in [0, 1], of the violent class.

    Returns:
        Whether each clip is violent, bool[N], and its probability, float64[N].

    Raises:
        ValueError: The arrays do not fit together or hold anything but labels and probabilities.
    """
    y, p = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    if y.ndim != 1 or y.shape != p.shape:
        raise ValueError(
            f"labels and probabilities must be two lists of one length, not of shapes {y.shape}, {p.shape}"
        )
    if not y.size:
        raise ValueError("there are no clips to evaluate")
    if not np.isin(y, (0, 1)).all():
        raise ValueError("labels must be 0 or 1")
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError("probabilities must lie in [0, 1]; NaN means that the training diverged")
    return y == 1, p
