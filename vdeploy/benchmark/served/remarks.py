"""Name and remarks of a served row in the table: transport, callers, and where its time goes."""

from __future__ import annotations

from vdeploy.benchmark.record import Row

__all__ = ["AGREEMENT_LIMIT", "SHARE_GOAL", "served_name", "served_remarks"]

AGREEMENT_LIMIT = 0.10
"""Largest accepted difference from the throughput of perf_analyzer, relative to it."""

SHARE_GOAL = 0.95
"""Share of the in-process throughput that a server should reach; below it, the table names the largest loss."""


def served_name(row: Row) -> str:
    """Name of a served row with address, transport and number of callers."""
    parts = [f"{row.name} at {row.where}"]
    if row.transport == "shared memory":
        parts.append(row.transport)
    if row.concurrency > 1:
        parts.append(f"{row.concurrency} callers")
    return ", ".join(parts)


def served_remarks(row: Row) -> list[str]:
    """Lists throughput relative to in process and to perf_analyzer, the time of a request, and requests of others."""
    remarks = []
    if row.clips_per_s and row.in_process_clips_per_s:
        remarks.append(f"{row.clips_per_s / row.in_process_clips_per_s:.1%} of in process{_loss(row)}")
    if row.queue_ms is not None and row.compute_ms is not None:
        remarks.append(f"queue {row.queue_ms:.1f} ms, compute {row.compute_ms:.1f} ms{_rest(row)}")
    if row.clips_per_s and row.perf_analyzer_clips_per_s:
        ratio = row.clips_per_s / row.perf_analyzer_clips_per_s
        verdict = "" if abs(ratio - 1) <= AGREEMENT_LIMIT else ", they disagree"
        remarks.append(f"{ratio:.1%} of perf_analyzer's{verdict}")
    if row.other_requests:
        remarks.append(f"served {row.other_requests} requests of others at the same time")
    return remarks


def _rest(row: Row) -> str:
    return f", rest {_rest_ms(row):.1f} ms" if row.clips_per_s and row.settled else ""


def _rest_ms(row: Row) -> float:
    """Time of a request outside the models: transport, and Triton's own work."""
    mean = row.concurrency * row.batch / (row.clips_per_s or 1.0) * 1000
    return max(mean - (row.queue_ms or 0.0) - (row.compute_ms or 0.0), 0.0)


def _loss(row: Row) -> str:
    """Names the largest loss; only with one caller do the times add up to the difference from in process."""
    own, served = row.in_process_clips_per_s or 0.0, row.clips_per_s or 0.0
    if not row.settled or row.concurrency > 1 or served >= SHARE_GOAL * own:
        return ""
    if row.compute_ms is None or row.queue_ms is None:
        return ""
    losses = {
        "waiting for a fuller batch": row.queue_ms,
        "slower computing": row.compute_ms - row.batch / own * 1000,
        "transport": _rest_ms(row),
    }
    cause = max(losses, key=lambda name: losses[name])
    return f", lost mostly by {cause} ({losses[cause]:.1f} ms)"
