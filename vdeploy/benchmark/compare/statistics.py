"""The ratio of two series of timings, with its confidence interval.

Timings on a shared machine are not independent: a disturbed window is slow as a whole, neighbouring windows of a busy
or hot machine are alike, and two runs of one program differ a little even where no window of either shows it.
Therefore, on the logarithm of the windows' medians:

- location and spread are those of the 20 % trimmed mean and the winsorized variance, which a few disturbed windows
  hardly move (Yuen 1974, "The two-sample trimmed t for unequal population variances");
- n windows with lag-one autocorrelation r count as n (1 - r) / (1 + r) independent ones. In a short series r is
  biased by -(1 + 4 r) / n (Kendall 1954; Marriott and Pope 1954), which is corrected, and uncertain: it is drawn
  towards the mean over all rows, which ran on the same machine;
- `RUN_SPREAD` is the variation from run to run (Kalibera and Jones 2013, "Rigorous benchmarking in reasonable
  time"), which no number of windows in one run reveals;
- the two are compared by Student's t with Welch's degrees of freedom.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vdeploy.core.lazy_imports import require

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["LEAST_WINDOWS", "RUN_SPREAD", "LogRatio", "enough", "holm_levels", "log_ratio", "mean_correlation"]

LEAST_WINDOWS = 4
"""With fewer windows, the noise cannot be estimated."""

RUN_SPREAD = 0.01
"""Standard deviation of the logarithm of a latency from run to run, beyond that of the windows of a run.

It cannot be measured in two runs and is assumed; `benchmarks/compare_reruns.py` shows whether it holds for a machine.
"""

_CERTAIN = 1e6
"""Degrees of freedom that make Student's distribution the normal one."""

_LARGEST = 700.0
"""Largest exponent whose power is finite."""

_TRIM = 0.2
_MOST_CORRELATED = 0.9
_PRIOR_WINDOWS = 20
"""Weight of the mean correlation, in windows of a row."""


@dataclasses.dataclass(frozen=True)
class LogRatio:
    """Logarithm of the ratio of two latencies.

    Attributes:
        estimate: Natural logarithm of the second over the first.
        error: Its standard error.
        freedom: Degrees of freedom of that error.
    """

    estimate: float
    error: float
    freedom: float

    def interval(self, level: float) -> tuple[float, float]:
        """Bounds of the ratio, each of which is wrong with a probability of ``level``.

        Args:
            level: Between 0 and 0.5.

        Returns:
            The lower and the upper bound of the ratio itself, not of its logarithm.
        """
        half = -float(_special().stdtrit(self.freedom, level)) * self.error
        return _exponential(self.estimate - half), _exponential(self.estimate + half)

    def p_above(self, ratio: float) -> float:
        """Probability of an estimate this high where the true ratio is at most ``ratio``."""
        return float(_special().stdtr(self.freedom, (math.log(ratio) - self.estimate) / self.error))

    def p_below(self, ratio: float) -> float:
        """Probability of an estimate this low where the true ratio is at least ``ratio``."""
        return float(_special().stdtr(self.freedom, (self.estimate - math.log(ratio)) / self.error))


def enough(windows: Sequence[float]) -> bool:
    """Whether a series can be compared: at least `LEAST_WINDOWS` timings, all of them positive and finite."""
    return len(windows) >= LEAST_WINDOWS and all(0 < window < math.inf for window in windows)


def mean_correlation(series: Sequence[Sequence[float]]) -> float:
    """Mean lag-one autocorrelation of several series of window medians, corrected for its bias.

    Args:
        series: The series; series that are not `enough` are ignored.

    Returns:
        Between 0 and 1; 0 where it is not known.
    """
    known = [_correlation(_Trimmed.of(windows).winsorized) for windows in series if enough(windows)]
    return min(max(float(np.mean(known)), 0.0), _MOST_CORRELATED) if known else 0.0


def log_ratio(before: Sequence[float], after: Sequence[float], *, correlation: float = 0.0) -> LogRatio:
    """Compares two series of window medians.

    Args:
        before: Medians of the first run's windows, in the order in which they were measured.
        after: The same of the second run.
        correlation: `mean_correlation` of all rows of both runs.

    Returns:
        The ratio of ``after`` to ``before``.

    Raises:
        ValueError: A series is not `enough`.
    """
    first, second = _Location.of(before, correlation), _Location.of(after, correlation)
    variance = math.fsum((first.variance, second.variance, 2 * RUN_SPREAD**2))
    welch = first.variance**2 / first.freedom + second.variance**2 / second.freedom
    freedom = min(variance**2 / welch, _CERTAIN) if welch else _CERTAIN
    return LogRatio(second.mean - first.mean, math.sqrt(variance), freedom)


def holm_levels(p_values: Sequence[float], level: float) -> list[tuple[bool, float]]:
    """Tests several hypotheses, so that a true one is rejected with a probability of at most ``level``.

    Holm (1979), "A simple sequentially rejective multiple test procedure".

    Args:
        p_values: The p-value of each hypothesis.
        level: Level of all tests together.

    Returns:
        For each: whether it is rejected, and the level at which it was tested.
    """
    outcome = [(False, level)] * len(p_values)
    falling = True
    tested_at = level
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        if falling:
            tested_at = level / (len(p_values) - rank)
            falling = p_values[index] < tested_at
        outcome[index] = (falling, tested_at)
    return outcome


@dataclasses.dataclass(frozen=True)
class _Trimmed:
    """Logarithms of windows: those that the trimmed mean is of, and all, the trimmed ones drawn in."""

    kept: npt.NDArray[np.float64]
    winsorized: npt.NDArray[np.float64]

    @classmethod
    def of(cls, windows: Sequence[float]) -> _Trimmed:
        if not enough(windows):
            raise ValueError(f"at least {LEAST_WINDOWS} positive timings are needed")
        logs = np.log(np.asarray(windows, np.float64))
        cut = int(_TRIM * len(logs))
        kept = np.sort(logs)[cut : len(logs) - cut]
        return cls(kept, np.clip(logs, kept[0], kept[-1]))


@dataclasses.dataclass(frozen=True)
class _Location:
    """Trimmed mean of the logarithms of windows, its variance, and the degrees of freedom of that variance."""

    mean: float
    variance: float
    freedom: float

    @classmethod
    def of(cls, windows: Sequence[float], correlation: float) -> _Location:
        trimmed = _Trimmed.of(windows)
        count, share = len(windows), len(trimmed.kept) / len(windows)
        own = _correlation(trimmed.winsorized)
        blended = (count * own + _PRIOR_WINDOWS * correlation) / (count + _PRIOR_WINDOWS)
        held = min(max(blended, 0.0), _MOST_CORRELATED)
        independent = max(count * (1 - held) / (1 + held), 2.0)
        variance = float(np.var(trimmed.winsorized)) / share**2 / (independent - 1)
        return cls(float(trimmed.kept.mean()), variance, max(1.0, independent * share - 1))


def _correlation(series: npt.NDArray[np.float64]) -> float:
    """Lag-one autocorrelation, corrected for its bias in a short series."""
    centred = series - series.mean()
    power = float(centred @ centred)
    seen = float(centred[1:] @ centred[:-1]) / power if power else 0.0
    count = len(series)
    return min((count * seen + 1) / max(count - 4, 1), 1.0)


def _exponential(value: float) -> float:
    return math.exp(min(value, _LARGEST))


def _special() -> Any:
    return require("scipy.special", extra="report", purpose="comparing benchmarks")
