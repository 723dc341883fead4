"""Whether sources gain more than chance gives: the sign-flip test."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["sign_flip_p_value"]

_EXACT_SOURCES = 13
_DRAWS = 9999
_TOLERANCE = 1e-9


def sign_flip_p_value(gains: npt.NDArray[np.float64]) -> float:
    """Two-sided p-value of the sum of independent gains, each of which is as likely with the other sign by chance.

    The permutation test of paired comparisons (Fisher 1935, "The Design of Experiments", sec. 21). With few gains that
    are not 0, all signs are tried. With more, they are drawn, and p = (b + 1) / (n + 1), where b of n draws have a sum
    as far from 0 (Phipson and Smyth 2010, "Permutation P-values Should Never Be Zero").

    Args:
        gains: Of one source each, ``float64[K]``.
    """
    gains = gains[np.abs(gains) > _TOLERANCE]
    observed = abs(gains.sum()) - _TOLERANCE
    if len(gains) <= _EXACT_SOURCES:
        signs = np.array(list(itertools.product((-1, 1), repeat=len(gains)))).reshape(2 ** len(gains), len(gains))
        return float(np.mean(np.abs(signs @ gains) >= observed))
    signs = np.random.default_rng(0).integers(2, size=(_DRAWS, len(gains)), dtype=np.int8) * 2 - 1
    return (1 + int(np.sum(np.abs(signs @ gains) >= observed))) / (1 + _DRAWS)
