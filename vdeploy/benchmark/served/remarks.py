"""What the table says of a served row: how it was called, and where its time went."""

from __future__ import annotations

from vdeploy.benchmark.record import Row

__all__ = ["AGREEMENT_LIMIT", "SHARE_GOAL", "served_name", "served_remarks"]

AGREEMENT_LIMIT = 0.10
"""How far throughput may be from what perf_analyzer found, over that."""

SHARE_GOAL = 0.95
"""What a server should reach of the throughput in process; of one that does not, the table says where it is lost."""


def served_name(row: Row) -> str:
    """The row with where it was served, over what, and to how many callers."""
    parts = [f"{row.name} at {row.where}"]
    if row.transport == "shared memory":
        parts.append(row.transport)
    if row.concurrency > 1:
        parts.append(f"{row.concurrency} callers")
    return ", ".join(parts)


def served_remarks(row: Row) -> list[str]:
    """Throughput beside the same in process, where a request's time goes, what perf_analyzer found, other callers."""
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
        remarks.append(f"served {row.other_requests} requests of others meanwhile")
    return remarks


def _rest(row: Row) -> str:
    return f", rest {_rest_ms(row):.1f} ms" if row.clips_per_s and row.settled else ""


def _rest_ms(row: Row) -> float:
    """What a caller waits beside the models' time: its request travels, and Triton passes it on."""
    mean = row.concurrency * row.batch / (row.clips_per_s or 1.0) * 1000
    return max(mean - (row.queue_ms or 0.0) - (row.compute_ms or 0.0), 0.0)


def _loss(row: Row) -> str:
    """Where most is lost; only where one caller waits for each answer do the times add up to what in process takes."""
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
