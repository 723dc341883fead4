"""Ranking of rows: the fastest, the Pareto front, and the reference of ratios."""

from __future__ import annotations

from collections.abc import Iterable

from vdeploy.benchmark.record import Benchmark, Row, Workload
from vdeploy.core.errors import BenchmarkError

__all__ = [
    "WORKLOADS",
    "fastest",
    "latency_front",
    "most_telling",
    "precision_family",
    "quality",
    "reference_name",
    "times_reference",
]

WORKLOADS: tuple[Workload, ...] = ("pipeline", "video", "extractor", "classifier")
"""All workloads, the most relevant for a deployment first."""

_REFERENCES = ("TensorFlow, model.predict", "savedmodel", "onnx-fp32", "tflite-fp32")


def reference_name(benchmark: Benchmark, wanted: str | None = None) -> str | None:
    """Chooses the name of the rows that ratios refer to.

    Args:
        benchmark: The benchmark.
        wanted: A name; left out, Keras' ``model.predict``, as most programs run such a model, or else another row in
            full precision.

    Returns:
        The name; ``None`` where no suitable row was measured.

    Raises:
        BenchmarkError: No measured row has the wanted name.
    """
    names = list(dict.fromkeys(row.name for row in benchmark.rows if row.ranked))
    if wanted is not None and wanted not in names:
        raise BenchmarkError(f"no row is called {wanted!r}", f"compare with one of: {'; '.join(names) or 'none'}")
    if wanted is not None:
        return wanted
    full = [row.name for row in benchmark.rows if row.ranked and precision_family(row) == "fp32"]
    return next((name for name in (*_REFERENCES, *full) if name in full), None)


def most_telling(rows: Iterable[Row]) -> Workload | None:
    """Chooses the first of `WORKLOADS` that has a settled row; ``None`` where there is none."""
    measured = {row.what for row in rows if row.ranked}
    return next((what for what in WORKLOADS if what in measured), None)


def fastest(rows: Iterable[Row]) -> Row | None:
    """Chooses the ranked row with the highest throughput, if there is one."""
    timed = [row for row in rows if row.ranked and row.clips_per_s]
    return max(timed, key=lambda row: row.clips_per_s or 0.0, default=None)


def times_reference(row: Row, rows: Iterable[Row], reference: str | None) -> float | None:
    """Computes the throughput of a row over that of the reference, for the same workload and batch.

    Args:
        row: A row.
        rows: All rows.
        reference: Name of the reference's rows.

    Returns:
        The ratio; ``None`` where either was not measured or did not settle.
    """
    others = (other for other in rows if (other.name, other.what, other.batch) == (reference, row.what, row.batch))
    base = fastest(others)
    if base is None or not base.clips_per_s or not row.ranked or row.clips_per_s is None:
        return None
    return row.clips_per_s / base.clips_per_s


def quality(rows: Iterable[Row], *, one_model: bool = True) -> tuple[str, dict[Row, float]]:
    """Chooses the measure of quality: accuracy where it is known, else agreement with the reference.

    Args:
        rows: The rows.
        one_model: Whether they are of one model. Each model has a reference of its own, so that agreement does not
            compare several.

    Returns:
        ``"accuracy"`` or ``"agreement"``, and its values for the rows that have it.
    """
    listed = list(rows)
    accuracy = {row: row.accuracy for row in listed if row.accuracy is not None}
    if accuracy or not one_model:
        return "accuracy", accuracy
    return "agreement", {row: row.agreement for row in listed if row.agreement is not None}


def latency_front(points: dict[Row, float]) -> list[Row]:
    """Computes the Pareto front of latency and quality, the fastest row first.

    Args:
        points: Quality of rows that have a latency.
    """
    front: list[Row] = []
    for row in sorted(points, key=lambda row: (row.p50_ms or 0.0, -points[row])):
        if not front or points[row] > points[front[-1]]:
            front.append(row)
    return front


def precision_family(row: Row) -> str:
    """Precision of most of the artifact, without the detail after a colon."""
    return row.precision.partition(":")[0]
