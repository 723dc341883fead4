"""Triton's inference statistics: requests and batches of each model, and their times.

The counters rise from the start of the server, over all versions of a model; a measurement is the difference of two
readings. An ensemble's statistics omit the time that its stages wait, so the stages are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vdeploy.benchmark.record import ServerTime

__all__ = ["Counts", "difference", "other_requests", "read_counts", "server_times"]

Counts = dict[str, dict[str, int]]
"""By stage: ``requests``, ``executions``, and nanoseconds of all requests in each of `_PARTS`."""

_PARTS = ("queue", "compute_input", "compute_infer", "compute_output")


def read_counts(client: Any, stages: Mapping[str, str]) -> Counts:
    """Reads a server's counters.

    Args:
        client: A `tritonclient.grpc.InferenceServerClient`.
        stages: Names of the models to read, by stage.

    Raises:
        InferenceServerException: The server does not publish its statistics.
    """
    counts: Counts = {}
    for stage, model in stages.items():
        versions = client.get_inference_statistics(model).model_stats
        counts[stage] = {
            "requests": sum(version.inference_stats.success.count for version in versions),
            "executions": sum(version.execution_count for version in versions),
            **{part: sum(getattr(version.inference_stats, part).ns for version in versions) for part in _PARTS},
        }
    return counts


def difference(before: Counts, after: Counts) -> Counts:
    """Computes the difference of two readings."""
    return {
        stage: {name: value - before[stage][name] for name, value in counts.items()} for stage, counts in after.items()
    }


def server_times(counts: Mapping[str, Mapping[str, int]]) -> dict[str, ServerTime]:
    """Computes the mean times of a request, by stage; stages that were not called are left out."""
    return {
        stage: ServerTime(
            requests=values["requests"],
            executions=values["executions"],
            **{f"{part}_ms": values[part] / values["requests"] / 1e6 for part in _PARTS},
        )
        for stage, values in counts.items()
        if values["requests"]
    }


def other_requests(counts: Mapping[str, Mapping[str, int]], sent: int, callers: int) -> int:
    """Counts the requests of other clients.

    Args:
        counts: The server's counters over the measurement.
        sent: Number of requests that were sent.
        callers: Number of callers. Triton counts a request shortly after it is answered, so up to this many requests
            that were sent before are included.
    """
    most = max((values["requests"] for values in counts.values()), default=0)
    return max(0, most - sent - callers)
