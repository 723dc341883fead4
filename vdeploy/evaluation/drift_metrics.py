"""Drift of the scores of models, as metrics of Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Protocol

from prometheus_client.core import GaugeMetricFamily

if TYPE_CHECKING:
    from prometheus_client import Metric

    from vdeploy.evaluation.drift import RecentScores

__all__ = ["DriftCollector", "Scored"]


class Scored(Protocol):
    """A version of a model, and the scores that it has given lately."""

    run: str
    version: str
    scores: RecentScores


class DriftCollector:
    """Computes the drift of models when the metrics are read.

    Args:
        prefix: What the names of the metrics begin with.
        models: The models.
    """

    def __init__(self, prefix: str, models: Callable[[], Iterable[Scored]]) -> None:
        self._prefix, self._models = prefix, models

    def collect(self) -> Iterator[Metric]:
        """The metrics; see `prometheus_client.registry.Collector`."""
        index = GaugeMetricFamily(
            f"{self._prefix}_score_drift",
            "Population stability index of the last 1000 scores against the clips that the model was verified on.",
            labels=["run", "version"],
        )
        limit = GaugeMetricFamily(
            f"{self._prefix}_score_drift_limit", "The index that tells of a change.", labels=["run", "version"]
        )
        for model in self._models():
            if (found := model.scores.compare()) is not None:
                index.add_metric([model.run, model.version], found[0])
                limit.add_metric([model.run, model.version], found[1])
        yield index
        yield limit
