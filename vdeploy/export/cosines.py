"""The direction of feature vectors: the measure of how far eight bits turn them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["row_cosines"]


def row_cosines(actual: npt.NDArray[Any], expected: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Cosines of two arrays ``[..., F]``, row by row along the last axis.

    Returns:
        ``float64[...]``; 1 where both rows are zero, 0 where one is.
    """
    one, other = actual.astype(np.float64, copy=False), expected.astype(np.float64, copy=False)
    products, norms = (one * other).sum(-1), np.linalg.norm(one, axis=-1) * np.linalg.norm(other, axis=-1)
    both_zero = ~one.any(-1) & ~other.any(-1)
    cosines = np.divide(products, norms, out=np.zeros_like(products), where=norms > 0)
    return np.where(both_zero, 1.0, cosines)
