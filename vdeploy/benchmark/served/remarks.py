"""What the table says of a served row: how it was called, and where its time went."""

from __future__ import annotations

from vdeploy.benchmark.record import Row

__all__ = ["AGREEMENT_LIMIT", "served_name", "served_remarks"]

AGREEMENT_LIMIT = 0.10
"""How far throughput may be from what perf_analyzer found, over that."""


def served_name(row: Row) -> str:
    """The row with where it was served, over what, and to how many callers."""
    parts = [f"{row.name} at {row.where}"]
    if row.transport == "shared memory":
        parts.append(row.transport)
    if row.concurrency > 1:
        parts.append(f"{row.concurrency} callers")
    return ", ".join(parts)


def served_remarks(row: Row) -> list[str]:
    """Throughput beside the same in process, where the time of a request goes, and what perf_analyzer found."""
    remarks = []
    if row.clips_per_s and row.in_process_clips_per_s:
        remarks.append(f"{row.clips_per_s / row.in_process_clips_per_s:.1%} of in process")
    if row.queue_ms is not None and row.compute_ms is not None:
        remarks.append(f"queue {row.queue_ms:.1f} ms, compute {row.compute_ms:.1f} ms{_rest(row)}")
    if row.clips_per_s and row.perf_analyzer_clips_per_s:
        ratio = row.clips_per_s / row.perf_analyzer_clips_per_s
        verdict = "" if abs(ratio - 1) <= AGREEMENT_LIMIT else ", they disagree"
        remarks.append(f"{ratio:.1%} of perf_analyzer's{verdict}")
    return remarks


def _rest(row: Row) -> str:
    """What a caller waits beside that: its requests travel, and Triton passes them on."""
    if not row.clips_per_s or not row.settled:
        return ""
    mean = row.concurrency * row.batch / row.clips_per_s * 1000
    rest = mean - (row.queue_ms or 0.0) - (row.compute_ms or 0.0)
    return f", rest {max(rest, 0.0):.1f} ms"
