"""Metrics of the gateway, in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

__all__ = ["CONTENT_TYPE", "Metrics"]

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """Metrics of one gateway; their names are part of its interface.

    Attributes:
        requests: By route, method and status.
        seconds: From the first byte in to the last one out, by route.
        decoding_seconds: Decoding of a file, waiting for a process included.
        batch_clips: Clips in a batch.
        scoring_seconds: Of a batch.
        verdicts: Videos scored, by model version.
        refusals: Requests refused for now, by the code of the answer.
        losses: Decoder processes that were replaced.
        failures: Unexpected errors.
    """

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter(
            "vdeploy_gateway_requests", "Requests answered.", ["route", "method", "status"], registry=registry
        )
        self.seconds = Histogram(
            "vdeploy_gateway_request_seconds", "Duration of requests.", ["route"], buckets=_SECONDS, registry=registry
        )
        self.decoding_seconds = Histogram(
            "vdeploy_gateway_decoding_seconds", "Decoding of a file.", buckets=_SECONDS, registry=registry
        )
        self.batch_clips = Histogram(
            "vdeploy_gateway_batch_clips", "Clips scored together.", buckets=(1, 2, 4, 8, 16, 32), registry=registry
        )
        self.scoring_seconds = Histogram(
            "vdeploy_gateway_scoring_seconds", "Scoring of a batch.", buckets=_SECONDS, registry=registry
        )
        self.verdicts = Counter("vdeploy_gateway_verdicts", "Videos scored.", ["version"], registry=registry)
        self.refusals = Counter(
            "vdeploy_gateway_refusals", "Requests refused for now: 429 and 503.", ["code"], registry=registry
        )
        self.losses = Counter("vdeploy_gateway_decoder_losses", "Decoding processes replaced.", registry=registry)
        self.failures = Counter("vdeploy_gateway_failures", "Unexpected errors.", registry=registry)

    def gauge(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Add a value that is read whenever the metrics are.

        Args:
            name: Without the prefix.
            text: What it is.
            value: How to read it.
        """
        Gauge(f"vdeploy_gateway_{name}", text, registry=self._registry).set_function(value)

    def register(self, collector: Collector) -> None:
        """Add metrics that are computed whenever the metrics are read.

        Args:
            collector: Computes them.
        """
        self._registry.register(collector)

    def on_batch(self, clips: int, seconds: float) -> None:
        """Record one batch."""
        self.batch_clips.observe(clips)
        self.scoring_seconds.observe(seconds)

    def text(self) -> bytes:
        """All metrics in text format."""
        return generate_latest(self._registry)
