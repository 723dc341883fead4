"""Drift of the scores of a served model, as metrics."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Protocol

from prometheus_client.core import GaugeMetricFamily

from vdeploy.evaluation.drift import NOTABLE, chance_index, stability_index

if TYPE_CHECKING:
    from prometheus_client import Metric

    from vdeploy.evaluation.drift import ScoreHistogram

__all__ = ["DriftCollector", "RecentScores"]

_SCORES = 1000
_FEWEST = 100


class RecentScores:
    """The last 1000 scores of a model, beside those of the clips that it was verified on.

    Args:
        reference: Scores of those clips; ``None`` where they are not known.
    """

    def __init__(self, reference: ScoreHistogram | None) -> None:
        self.reference = reference
        self._scores: collections.deque[float] = collections.deque(maxlen=_SCORES)

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


class _Watched(Protocol):
    run: str
    version: str
    scores: RecentScores


class DriftCollector:
    """Computes the drift of each served model when the metrics are read.

    Args:
        models: Those that are served.
    """

    def __init__(self, models: Callable[[], Iterable[_Watched]]) -> None:
        self._models = models

    def collect(self) -> Iterator[Metric]:
        """The metrics; see `prometheus_client.registry.Collector`."""
        index = GaugeMetricFamily(
            "vdeploy_gateway_score_drift",
            "Population stability index of the last 1000 scores against the clips that the model was verified on.",
            labels=["run", "version"],
        )
        limit = GaugeMetricFamily(
            "vdeploy_gateway_score_drift_limit", "The index that tells of a change.", labels=["run", "version"]
        )
        for model in self._models():
            if (found := model.scores.compare()) is not None:
                index.add_metric([model.run, model.version], found[0])
                limit.add_metric([model.run, model.version], found[1])
        yield index
        yield limit
