"""A benchmark as a table for the terminal: the fastest row first, with ratios to a reference."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from vdeploy.benchmark.record import IN_PROCESS, Benchmark, Row
from vdeploy.benchmark.served.remarks import served_name, served_remarks
from vdeploy.core.errors import BenchmarkError

__all__ = ["COLUMNS", "choose_reference", "ranked_rows", "table_rows", "title_of"]

COLUMNS = (
    *("what", "batch", "rank", "name", "precision", "p50 ms", "p95 ms", "p99 ms", "clips/s", "ratio", "GFLOP/s"),
    *("of peak", "MB", "RAM MB", "accuracy", "agree", "remark"),
)

_REFERENCES = ("onnx-fp32", "tflite-fp32", "savedmodel")


def choose_reference(benchmark: Benchmark, wanted: str | None) -> str:
    """Chooses the name of the rows that ratios refer to.

    Args:
        benchmark: The benchmark.
        wanted: A name; left out, the first measured format in full precision.

    Raises:
        BenchmarkError: There are no rows of that name.
    """
    names = list(dict.fromkeys(row.name for row in benchmark.rows if row.status == "ok"))
    if wanted is not None and wanted not in names:
        raise BenchmarkError(f"no row is called {wanted!r}", f"compare with one of: {'; '.join(names)}")
    known = (name for name in (wanted, *_REFERENCES, *names) if name in names)
    return next(known, None) or ""


def ranked_rows(rows: Sequence[Row]) -> list[tuple[int | None, Row]]:
    """Groups rows by workload and batch and ranks them, the fastest first.

    Args:
        rows: The rows.

    Returns:
        Pairs of a rank, from 1, and a row. Rows that did not settle or were not measured have no rank and come last.
    """
    result: list[tuple[int | None, Row]] = []
    order = list(dict.fromkeys(_group(row) for row in rows))
    for group in order:
        members = sorted((row for row in rows if _group(row) == group), key=_place)
        places = itertools.count(1)
        result += [(next(places) if row.ranked else None, row) for row in members]
    return result


def table_rows(benchmark: Benchmark, reference: str) -> list[list[object]]:
    """Makes the cells of the table, under `COLUMNS`.

    Args:
        benchmark: The benchmark.
        reference: The result of `choose_reference`.
    """
    base = {_group(row): row.clips_per_s for row in benchmark.rows if row.name == reference and row.clips_per_s}
    return [_cells(rank, row, base.get(_group(row))) for rank, row in ranked_rows(benchmark.rows)]


def title_of(benchmark: Benchmark, reference: str) -> str:
    """Makes the title of the table: bundle, machine, peaks and references.

    Args:
        benchmark: The benchmark.
        reference: The result of `choose_reference`.
    """
    machine = benchmark.environment
    peaks = ", ".join(f"{peak.data_type} {peak.gflops:.0f}" for peak in benchmark.peaks)
    sources = {row.held_out_from for row in benchmark.rows if row.held_out_from}
    origin = " and ".join(sorted(sources)) or "nowhere"
    return (
        f"{benchmark.bundle} on {machine.cores} cores of {machine.cpu}, {machine.threads} threads; "
        f"measured peak GFLOP/s: {peaks}; ratio to {reference or 'nothing'}; accuracy from: {origin}"
    )


def _cells(rank: int | None, row: Row, base: float | None) -> list[object]:
    ratio = row.clips_per_s / base if row.ranked and row.clips_per_s and base else None
    return [
        row.what,
        row.batch,
        rank,
        row.name if row.where == IN_PROCESS else served_name(row),
        row.precision.partition(":")[0],
        *(_number(value, "{:.2f}") for value in (row.p50_ms, row.p95_ms, row.p99_ms, row.clips_per_s, ratio)),
        _number(row.gflops, "{:.0f}"),
        _number(row.peak_share, "{:.0%}"),
        _number(row.size_bytes, "{:.1f}", 1e-6),
        _number(row.peak_memory_bytes, "{:.0f}", 1e-6),
        _number(row.accuracy, "{:.1%}"),
        _number(row.agreement, "{:.1%}"),
        _remark(row),
    ]


def _remark(row: Row) -> str:
    if row.status != "ok":
        return f"{row.status}: {row.reason}"
    remarks = served_remarks(row)
    if not row.settled and row.spread is not None:
        remarks.insert(0, f"did not settle, spread {row.spread:.0%}")
    elif row.shares is not None:
        parts = row.shares.model_dump(exclude_none=True)
        remarks.append(", ".join(f"{part} {share:.0%}" for part, share in parts.items()))
    return "; ".join(remarks)


def _number(value: float | None, form: str, factor: float = 1.0) -> str | None:
    return None if value is None else form.format(value * factor)


def _group(row: Row) -> tuple[str, int]:
    return row.what, row.batch


def _place(row: Row) -> tuple[bool, bool, float]:
    return row.status != "ok", not row.ranked, -(row.clips_per_s or 0.0)
