"""Labels of rows: as short as possible, and unique."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable

from vdeploy.benchmark.record import IN_PROCESS, Row

__all__ = ["label", "labels"]


def label(row: Row) -> str:
    """Labels a row by workload, name and every setting that is not the default: ``extractor onnx-int8, batch 8``."""
    parts = [f"{row.what} {row.name}", f"batch {row.batch}"]
    if row.where != IN_PROCESS:
        parts.append("served" if row.transport is None else f"served over {row.transport}")
    if row.concurrency > 1:
        parts.append(f"{row.concurrency} callers")
    if row.device != "cpu":
        parts.append(row.device)
    return ", ".join(parts)


def labels(rows: Iterable[Row]) -> dict[Hashable, str]:
    """Labels rows, by their key; where labels would be equal, precision, runtime and threads are added.

    Args:
        rows: Rows of one or several files; rows with the same key are the same measurement.
    """
    by_key = {row.key: row for row in rows}
    shared = Counter(label(row) for row in by_key.values())
    return {
        key: label(row)
        if shared[label(row)] == 1
        else f"{label(row)}, {row.precision} in {row.runtime}, {row.threads} threads"
        for key, row in by_key.items()
    }
