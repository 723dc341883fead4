"""Drift of scores: how far the distribution of recent scores is from that of clips that were not learnt from."""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["NOTABLE", "RecentScores", "ScoreHistogram", "chance_index", "stability_index"]

NOTABLE = 0.25
"""From this index on, a distribution has changed: the rule of Siddiqi, "Credit Risk Scorecards" (2006)."""

_BINS = 10
_SCORES_PER_BIN = 10
_HALF = 0.5
"""Added to the count of each bin, so that an empty one has a logarithm."""
_NORMAL_QUANTILE = 2.3263
"""Of the standard normal distribution at 99 %."""

_RECENT = 1000
_FEWEST = 100


@dataclasses.dataclass(frozen=True)
class ScoreHistogram:
    """Counts of scores between quantiles.

    Attributes:
        edges: Inner edges of the bins, rising; a score that equals an edge is in the bin above.
        counts: Scores in each bin, one more than edges.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]

    def __post_init__(self) -> None:
        rising = all(low < high for low, high in zip(self.edges, self.edges[1:], strict=False))
        if not self.edges or len(self.counts) != len(self.edges) + 1 or not rising or min(self.counts) < 0:
            raise ValueError("edges do not rise, or do not fit the counts")

    @classmethod
    def of(cls, scores: Sequence[float]) -> ScoreHistogram | None:
        """Count scores between their deciles, or in fewer bins of 10 scores each.

        Args:
            scores: Probabilities of violence.

        Returns:
            The histogram; ``None`` for fewer than 20 scores, or where nearly all are equal.
        """
        bins = min(_BINS, len(scores) // _SCORES_PER_BIN)
        if bins < 2:
            return None
        quantiles = np.quantile(np.asarray(scores, np.float64), np.arange(1, bins) / bins, method="higher")
        edges = tuple(float(edge) for edge in np.unique(quantiles) if edge > min(scores))
        return cls(edges, _counts(edges, scores)) if edges else None

    @classmethod
    def from_dict(cls, values: Any) -> ScoreHistogram:
        """Read what `dataclasses.asdict` gave, from JSON.

        Raises:
            KeyError, TypeError, ValueError: It is malformed.
        """
        return cls(tuple(map(float, values["edges"])), tuple(map(int, values["counts"])))

    def count(self, scores: Sequence[float]) -> tuple[int, ...]:
        """How many scores are in each bin."""
        return _counts(self.edges, scores)


def _counts(edges: Sequence[float], scores: Sequence[float]) -> tuple[int, ...]:
    places = np.searchsorted(np.asarray(edges), np.asarray(scores, np.float64), side="right")
    return tuple(int(count) for count in np.bincount(places, minlength=len(edges) + 1))


def stability_index(expected: Sequence[int], actual: Sequence[int]) -> float:
    """The population stability index of two histograms with the same bins.

    ``sum((a_i - e_i) * ln(a_i / e_i))`` over the bins, with the shares e and a of each: Siddiqi, "Credit Risk
    Scorecards" (2006), the symmetric divergence of Kullback and Leibler (1951).

    Args:
        expected: Counts of the reference.
        actual: Counts of what is compared.

    Returns:
        The index: 0 for equal shares, below 0.1 for little change, above 0.25 for a notable one.
    """
    shares = [(np.asarray(counts, np.float64) + _HALF) for counts in (expected, actual)]
    reference, found = (counts / counts.sum() for counts in shares)
    return float(((found - reference) * np.log(found / reference)).sum())


def chance_index(expected: Sequence[int], actual: Sequence[int]) -> float:
    """The index that two samples of one distribution exceed in 1 of 100 cases.

    For N and M scores in B bins, the index divided by ``1/N + 1/M`` is about chi-square distributed with B - 1 degrees
    of freedom: Yurdakul, "Statistical Properties of Population Stability Index" (2018). The quantile is approximated
    as by Wilson and Hilferty (1931).

    Args:
        expected: Counts of the reference.
        actual: Counts of what is compared.
    """
    freedom = len(expected) - 1
    part = 2 / (9 * freedom)
    quantile = freedom * (1 - part + _NORMAL_QUANTILE * math.sqrt(part)) ** 3
    return float(quantile * (1 / sum(expected) + 1 / sum(actual)))


class RecentScores:
    """The last 1000 scores of a model, beside those of the clips that it was verified on.

    Args:
        reference: Scores of those clips; ``None`` where they are not known.
    """

    def __init__(self, reference: ScoreHistogram | None) -> None:
        self.reference = reference
        self._scores: collections.deque[float] = collections.deque(maxlen=_RECENT)

    def add(self, score: float) -> None:
        """Take a score; from any thread."""
        self._scores.append(score)

    def compare(self) -> tuple[float, float] | None:
        """The population stability index, and from which value on it tells of a change.

        Returns:
            The index and 0.25, or more where so few scores reach that by chance; ``None`` without a reference, and for
            fewer than 100 scores.
        """
        scores = list(self._scores)
        if self.reference is None or len(scores) < _FEWEST:
            return None
        expected, actual = self.reference.counts, self.reference.count(scores)
        return stability_index(expected, actual), max(NOTABLE, chance_index(expected, actual))
