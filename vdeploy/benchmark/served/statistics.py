"""What a Triton server counts itself: requests and batches of a model, and where their time went.

Triton's counters rise from its start on, over all versions of a model; what a measurement cost is a difference of two
readings. Of an ensemble it counts the waiting for its stages nowhere, so the stages are asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from vdeploy.benchmark.record import ServerTime
from vdeploy.benchmark.served.models import STAGE_MODELS

__all__ = ["Counts", "difference", "other_requests", "read_counts", "server_times"]

Counts = dict[str, dict[str, int]]
"""By stage: ``requests``, ``executions``, and nanoseconds of all requests in each of `_PARTS`."""

_PARTS = ("queue", "compute_input", "compute_infer", "compute_output")


def read_counts(client: Any, stages: Iterable[str]) -> Counts:
    """Reads a server's counters.

    Args:
        client: A `tritonclient.grpc.InferenceServerClient`.
        stages: Which ones.

    Raises:
        InferenceServerException: The server does not tell.
    """
    counts: Counts = {}
    for stage in stages:
        versions = client.get_inference_statistics(STAGE_MODELS[stage]).model_stats
        counts[stage] = {
            "requests": sum(version.inference_stats.success.count for version in versions),
            "executions": sum(version.execution_count for version in versions),
            **{part: sum(getattr(version.inference_stats, part).ns for version in versions) for part in _PARTS},
        }
    return counts


def difference(before: Counts, after: Counts) -> Counts:
    """What was counted between two readings."""
    return {
        stage: {name: value - before[stage][name] for name, value in counts.items()} for stage, counts in after.items()
    }


def server_times(counts: Mapping[str, Mapping[str, int]]) -> dict[str, ServerTime]:
    """Means of the requests, by stage; nothing of a stage that was not called."""
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
    """How many requests came from elsewhere.

    Args:
        counts: What the server counted.
        sent: What was sent to it.
        callers: By how many. Triton counts a request shortly after it is answered, so that so many may be counted that
            were sent before.
    """
    most = max((values["requests"] for values in counts.values()), default=0)
    return max(0, most - sent - callers)
