"""Metrics of a watch, which Prometheus reads over HTTP: sources, windows, and drift of the scores."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from vdeploy.core.errors import UserError
from vdeploy.core.progress import say
from vdeploy.evaluation.drift import RecentScores
from vdeploy.evaluation.drift_metrics import DriftCollector
from vdeploy.live.status import StatusBoard

if TYPE_CHECKING:
    from prometheus_client import Metric

    from vdeploy.inference.scorer import BundleScorer
    from vdeploy.live.report import Report

__all__ = ["WatchMetrics", "serve_metrics"]

_PREFIX = "vdeploy_watch"


@dataclasses.dataclass
class _Model:
    run: str
    version: str
    scores: RecentScores


class WatchMetrics:
    """Metrics of one watch; their names are part of its interface.

    Args:
        names: The sources.
        scorer: What scores their windows.

    Attributes:
        registry: Holds the metrics.
    """

    def __init__(self, names: Sequence[str], scorer: BundleScorer) -> None:
        self._board = StatusBoard(names)
        self._model = _model(scorer)
        if self._model.scores.reference is None:
            say("metrics: no drift of the scores, as the bundle lacks the scores of 20 held-out clips")
        self.registry = CollectorRegistry()
        self.registry.register(self)
        self.registry.register(DriftCollector(_PREFIX, lambda: [self._model]))

    def use(self, scorer: BundleScorer) -> None:
        """Takes another scorer; scores of another version are counted anew."""
        model = _model(scorer)
        if model.version != self._model.version:
            self._model = model

    def take(self, report: Report) -> None:
        """Takes a report."""
        self._board.take(report)
        if report.window is not None:
            self._model.scores.add(report.window.probability)

    def collect(self) -> Iterator[Metric]:
        """The metrics of the sources; see `prometheus_client.registry.Collector`."""
        sources = [*self._board.sources.values()]
        connected = GaugeMetricFamily(f"{_PREFIX}_connected", "Whether a source is connected.", labels=["source"])
        for source in sources:
            connected.add_metric([source.name], float(source.state == "connected"))
        yield connected
        for name, text in {
            "windows": "Windows that were scored.",
            "events": "Events that have begun.",
            "dropped_frames": "Sampled frames that were dropped.",
        }.items():
            counter = CounterMetricFamily(f"{_PREFIX}_{name}", text, labels=["source"])
            for source in sources:
                counter.add_metric([source.name], getattr(source, name))
            yield counter


def _model(scorer: BundleScorer) -> _Model:
    return _Model(scorer.run, scorer.bundle_digest[:12], RecentScores(scorer.score_histogram))


@contextlib.contextmanager
def serve_metrics(metrics: WatchMetrics, host: str, port: int) -> Iterator[None]:
    """Answers Prometheus while a `with` block lasts.

    Args:
        metrics: What it reads.
        host: Address to listen on.
        port: Port to listen on.

    Raises:
        UserError: The address cannot be listened on.
    """
    try:
        server, thread = start_http_server(port, host, metrics.registry)
    except OSError as error:
        raise UserError(
            f"metrics cannot be served at {host}:{port} ({error.strerror})",
            "choose another --metrics-port or --metrics-host",
        ) from error
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
