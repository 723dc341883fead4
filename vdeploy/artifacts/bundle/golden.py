"""Golden clips: a few clips with the probabilities that a right deployment gives them, kept inside the bundle."""

from __future__ import annotations

import dataclasses
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vdeploy.core.errors import BundleError
from vdeploy.core.files import atomic_write

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["GOLDEN", "GoldenClips"]

GOLDEN = "golden.npz"
"""Beside a bundle's manifest, which holds its hash."""

TOLERANCE = 1e-3
"""How far float32 may be off: the same arithmetic in another order, and the softmax flattens what is left."""


@dataclasses.dataclass(frozen=True)
class GoldenClips:
    """Clips and what they must be answered with.

    Attributes:
        frames: `uint8[N, T, H, W, 3]`, RGB.
        probabilities: `float32[N, 2]`.
        source: Where they come from, in words.
        tolerance: How far a probability may be off.
    """

    frames: npt.NDArray[np.uint8]
    probabilities: npt.NDArray[np.float32]
    source: str
    tolerance: float = TOLERANCE

    def __len__(self) -> int:
        return len(self.frames)

    def first(self, count: int) -> GoldenClips:
        """At most `count` of the clips."""
        return dataclasses.replace(self, frames=self.frames[:count], probabilities=self.probabilities[:count])

    def deviation(self, answer: npt.NDArray[np.float32]) -> float:
        """The largest difference of an answer, `float32[N, 2]`, from what is expected; infinite where it is no number.

        Raises:
            ValueError: The answer has another shape.
        """
        if answer.shape != self.probabilities.shape:
            raise ValueError(f"shape {list(answer.shape)} instead of {list(self.probabilities.shape)}")
        worst = float(np.abs(answer - self.probabilities).max())
        return worst if np.isfinite(worst) else float("inf")

    def save(self, file: Path) -> None:
        """Writes them, compressed, in one step."""
        with atomic_write(file) as handle:
            np.savez_compressed(
                handle,
                frames=self.frames,
                probabilities=self.probabilities,
                source=np.array(self.source),
                tolerance=np.array(self.tolerance),
            )

    @classmethod
    def load(cls, file: Path) -> GoldenClips:
        """Reads what `save` has written.

        Raises:
            BundleError: The file cannot be read as such.
        """
        try:
            with file.open("rb") as handle, np.load(handle, allow_pickle=False) as held:
                return cls(
                    np.asarray(held["frames"], np.uint8),
                    np.asarray(held["probabilities"], np.float32),
                    str(held["source"]),
                    float(held["tolerance"]),
                )
        except (OSError, ValueError, KeyError, EOFError, MemoryError, zipfile.BadZipFile) as error:
            raise BundleError(f"{file} cannot be read as golden clips ({error})", "export the run again") from error
