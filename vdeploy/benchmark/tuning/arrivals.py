"""Times at which requests arrive: a Poisson process, or recorded ones, at any rate."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import math
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vdeploy.core.errors import BenchmarkError

__all__ = ["LEAST_RECORDED", "PARTS", "Arrivals", "poisson_arrivals", "read_arrivals"]

LEAST_RECORDED = 400
"""Recorded arrivals at least; fewer do not show how they cluster."""

PARTS = 4
"""Independent arrivals: the first choose, the others confirm."""

_POOL = 100_000


@dataclasses.dataclass(frozen=True)
class Arrivals:
    """Gaps between requests with a mean of 1, from which the same arrivals follow at every rate.

    So all configurations and rates are compared on the same arrivals (common random numbers; Law, Simulation Modeling
    and Analysis, section 11.2).

    Attributes:
        name: What they are.
        parts: `float64[N]` each, repeated where more are needed. The first part serves a search, the others confirm
            what it has chosen.
    """

    name: str
    parts: tuple[npt.NDArray[np.float64], ...]

    def times(self, rate: float, count: int, part: int = 0) -> npt.NDArray[np.float64]:
        """Seconds of each arrival from the start, `float64[count]`.

        Args:
            rate: Arrivals a second on average.
            count: How many.
            part: Of which part.
        """
        return np.cumsum(np.resize(self.parts[part], count)) / rate


def poisson_arrivals(seed: int = 0) -> Arrivals:
    """Makes exponentially distributed gaps: requests of many independent clients."""
    parts = (np.random.default_rng([seed, part]).exponential(size=_POOL) for part in range(PARTS))
    return Arrivals(f"Poisson arrivals, seed {seed}", tuple(parts))


def read_arrivals(file: Path) -> Arrivals:
    """Reads recorded arrivals; they are replayed faster or slower, in their order.

    Args:
        file: Text with the seconds of one arrival a line, from any start, in any order.

    Raises:
        BenchmarkError: It cannot be read, or holds too few arrivals.
    """
    try:
        content = file.read_bytes()
        seconds = sorted(_seconds(line, number) for number, line in enumerate(content.splitlines(), 1) if line.strip())
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise BenchmarkError(f"{file} holds no arrivals ({reason})", "give seconds, one number a line") from error
    if len(seconds) <= LEAST_RECORDED or seconds[0] == seconds[-1]:
        raise BenchmarkError(
            f"{file} holds {len(seconds)} arrivals within {seconds[-1] - seconds[0] if seconds else 0:g} s",
            f"record more than {LEAST_RECORDED}",
        )
    gaps = np.array([later - earlier for earlier, later in itertools.pairwise(seconds)])
    parts = (part / part.mean() if part.any() else np.ones(len(part)) for part in np.array_split(gaps, PARTS))
    return Arrivals(f"arrivals of {file.name}, sha256 {hashlib.sha256(content).hexdigest()[:16]}", tuple(parts))


def _seconds(line: bytes, number: int) -> float:
    try:
        value = float(line)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"line {number} is no number")
    return value
