"""What every way of scoring clips has in common, in this process or on a server."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from training.clips import ClipSpec

__all__ = ["Scorer"]


class Scorer(Protocol):
    """Turns clips into class probabilities.

    Attributes:
        spec: The frames that it expects.
        classes: Names of the two probabilities, in order.
        threshold: Probability of the second class from which a clip counts as violent.
    """

    @property
    def spec(self) -> ClipSpec:
        """The frames that it expects."""

    @property
    def classes(self) -> tuple[str, str]:
        """Names of the two probabilities, in order."""

    @property
    def threshold(self) -> float:
        """Probability of the second class from which a clip counts as violent."""

    def score(self, frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Scores a batch of clips.

        Args:
            frames: RGB, `uint8[B, T, S, S, 3]` with T and S of `spec`.

        Returns:
            `float32[B, 2]`; a row sums to 1.
        """
