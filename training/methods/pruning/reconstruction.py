"""Which input channels a convolution can do without, and the kernel that makes up for them, in closed form.

The output of a convolution is linear in its kernel. With the patches that it sees as rows of X and the outputs that the
original network has there as rows of Y, the kernel that reconstructs them best is the least-squares solution
W = (X^T X)^-1 X^T Y (He, Zhang & Sun 2017, "Channel Pruning for Accelerating Very Deep Neural Networks", eq. 3). As
there, X comes from the network pruned so far and Y from the original one, so that errors do not add up. A ridge draws
the solution towards the original kernel, which it is where nothing before it has changed.

The channels are chosen as there by a factor b_c for each: min ||Y - sum_c b_c X_c W_c||^2 over b, with few b_c other
than 0 (eq. 1). In place of the paper's LASSO, channels are removed one by one with all other factors fitted anew, which
Hassibi & Stork 1993, "Second Order Derivatives for Network Pruning: Optimal Brain Surgeon", eq. 5, do in closed form:
without channel c, the squared error grows by b_c^2 / [G^-1]_cc, where G is the Gram matrix of the channels' outputs
X_c W_c. The channel with the smallest growth goes first. Where several convolutions read the same channels, one factor
stands for a channel in all of them, and their errors are added.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vdeploy.core.lazy_imports import require

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

__all__ = ["NormalEquations", "choose_channels"]

_RIDGE = 1e-3
"""What the squared distance from the original kernel counts, as a share of the mean of H's diagonal."""


class NormalEquations:
    """H = X^T X and X^T Y of a convolution, summed over patches.

    Args:
        kernel: The original kernel, ``float32[C, K, O]``: input channels, positions (9 of 3 x 3, 27 of 3 x 3 x 3),
            outputs.
    """

    def __init__(self, kernel: npt.NDArray[np.float32]) -> None:
        self.channels, self.taps, outputs = kernel.shape
        self._prior = np.concatenate([kernel.reshape(-1, outputs), np.zeros((1, outputs))])
        size = len(self._prior)
        self._gram, self._cross = np.zeros((size, size)), np.zeros((size, outputs))

    def add(self, patches: npt.NDArray[np.float32], outputs: npt.NDArray[np.float32]) -> None:
        """Take patches into account.

        Args:
            patches: ``float32[N, C, K]``.
            outputs: What the original convolution gives there before its activation, ``float32[N, O]``.
        """
        x = np.concatenate([patches.reshape(len(patches), -1), np.ones((len(patches), 1), np.float32)], axis=1)
        self._gram += x.T @ x
        self._cross += x.T @ outputs

    def factor_equations(self) -> tuple[Floats, Floats]:
        """Return the normal equations of the factors b_c: the Gram matrix of X_c W_c, and its products with Y.

        Returns:
            ``float64[C, C]`` and ``float64[C]``.
        """
        weights, mean = self._prior[:-1], self._gram[-1, :-1] / self._gram[-1, -1]
        cross = self._cross[:-1] - np.outer(mean, self._cross[-1])
        gram = np.empty((self.channels, self.channels))
        for channel in range(self.channels):  # row by row: a whole product has up to 200 MB
            rows = slice(channel * self.taps, (channel + 1) * self.taps)
            centred = self._gram[rows, :-1] - np.outer(self._gram[rows, -1], mean)
            products = centred * (weights[rows] @ weights.T)
            gram[channel] = products.reshape(self.taps, self.channels, self.taps).sum(axis=(0, 2))
        return gram, (cross * weights).reshape(self.channels, -1).sum(axis=1)

    def solve(self, kept: npt.NDArray[np.int64]) -> tuple[Floats, Floats]:
        """The kernel and the bias that reconstruct the outputs from some of the input channels.

        Args:
            kept: Their numbers, k.

        Returns:
            ``float64[k, K, O]`` and ``float64[O]``.
        """
        linalg: Any = require("scipy.linalg", extra="train", purpose="pruning")
        rows = np.append((kept[:, None] * self.taps + np.arange(self.taps)).ravel(), self.channels * self.taps)
        gram, cross = self._gram[np.ix_(rows, rows)], self._cross[rows]
        ridge = np.full(len(rows), _RIDGE * np.diag(self._gram)[:-1].mean() + np.finfo(np.float32).tiny)
        ridge[-1] = 0
        gram[np.diag_indices_from(gram)] += ridge
        factor = linalg.cho_factor(gram, overwrite_a=True)
        found = linalg.cho_solve(factor, cross + ridge[:, None] * self._prior[rows])
        return found[:-1].reshape(len(kept), self.taps, -1), found[-1]


def choose_channels(
    equations: Sequence[NormalEquations], owners: npt.NDArray[np.int64], counts: Sequence[int]
) -> npt.NDArray[np.int64]:
    """The channels to keep for all convolutions that read them together.

    Args:
        equations: Those of each convolution.
        owners: Which convolution makes each channel, ``int64[C]``, from 0.
        counts: How many to keep of each of these.

    Returns:
        Their numbers, ascending.
    """
    systems = [each.factor_equations() for each in equations]
    gram, cross = sum(each for each, _ in systems), sum(each for _, each in systems)
    gram = gram + np.diag(np.full(len(owners), _RIDGE * np.diag(gram).mean() + np.finfo(np.float32).tiny))
    inverse = np.linalg.inv(gram)
    factors = inverse @ cross
    alive, left = np.ones(len(owners), bool), np.bincount(owners)
    while (removable := alive & (left > counts)[owners]).any():
        growth = np.where(removable, np.square(factors) / np.where(removable, np.diag(inverse), 1), np.inf)
        removed = int(np.argmin(growth))
        alive[removed] = False
        left[owners[removed]] -= 1
        column = inverse[:, removed] / inverse[removed, removed]
        factors = factors - column * factors[removed]
        inverse -= np.outer(column, inverse[removed])
    return np.flatnonzero(alive)
