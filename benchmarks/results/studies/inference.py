"""How fast clips are scored: in process in every runtime, by a server, and on a GPU."""

from __future__ import annotations

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

from benchmarks.inference import ratios
from benchmarks.results.markdown import between, table
from benchmarks.results.study import Blocks, single
from vdeploy.benchmark.record import IN_PROCESS, Row
from vdeploy.benchmark.report.table import ranked_rows

__all__ = ["INFERENCE", "INFERENCE_ON_GPU", "SERVED"]

_COLUMNS = (
    *("", "precision", "p50 ms", "p99 ms", "clips/s", "GFLOP/s", "of peak", "MB", "RAM MB", "accuracy", "same verdict"),
)
_SERVED = ("format", "over", "callers", "clips/s", "of in process", "p50 ms", "p99 ms", "queue ms", "compute ms", "")


def _inference(found: dict[str, Any]) -> Blocks:
    rows = _rows(found)
    yield from _in_process(found, rows)
    measured: Any = SimpleNamespace(rows=rows)
    if compared := ratios(measured):
        yield "Ratios of the median calls:"
        yield table(
            ("", "times", "goal", "", "of", "to"),
            [
                (
                    ratio.name,
                    f"{ratio.value:.2f}",
                    f"{ratio.goal:.2f}",
                    ("met" if ratio.met else "missed") + ("" if ratio.settled else ", not settled"),
                    *ratio.rows,
                )
                for ratio in compared
            ],
        )


def _on_gpu(found: dict[str, Any]) -> Blocks:
    yield from _in_process(found, _rows(found))


def _in_process(found: dict[str, Any], rows: Iterable[Row]) -> Blocks:
    pipelines = [row for row in rows if row.what == "pipeline" and row.where == IN_PROCESS]
    batches = between(str(batch) for batch in sorted({row.batch for row in pipelines}))
    judged = max((row.held_out_clips or 0 for row in pipelines), default=0)
    peaks = between(f"{peak['gflops']:.0f} GFLOP/s in {peak['data_type']}" for peak in found["peaks"])
    yield (
        f"Frames to probabilities, layer {found['layer']}, {found['clip_frames']} frames of {found['clip_size']} px, "
        f"clips a call: {batches}; all rows in one run, in turns. Measured peak of the machine: {peaks}. Accuracy and "
        f"verdicts on up to {judged} held-out clips."
    )
    yield table(_COLUMNS, [_cells(row) for _, row in ranked_rows(pipelines)])


def _cells(row: Row) -> list[object]:
    name = row.name if row.ranked or row.status != "ok" else f"{row.name} (did not settle)"
    if row.status != "ok":
        return [f"{name}: {row.status}, {row.reason}", row.precision, *[None] * (len(_COLUMNS) - 2)]
    return [
        name,
        row.precision,
        *(_number(value, "{:.1f}") for value in (row.p50_ms, row.p99_ms)),
        _number(row.clips_per_s, "{:.2f}"),
        _number(row.gflops, "{:.0f}"),
        _number(row.peak_share, "{:.0f} %", 100),
        _number(row.size_bytes, "{:.1f}", 1e-6),
        _number(row.peak_memory_bytes, "{:.0f}", 1e-6),
        _number(row.accuracy, "{:.1f} %", 100),
        _number(row.agreement, "{:.1f} %", 100),
    ]


def _served(found: dict[str, Any]) -> Blocks:
    yield "A Triton on the same machine, one clip a request, in turns with the same files in process."
    yield table(_SERVED, [_served_cells(row) for row in _rows(found) if row.where != IN_PROCESS])


def _served_cells(row: Row) -> list[object]:
    share = row.clips_per_s / row.in_process_clips_per_s if row.clips_per_s and row.in_process_clips_per_s else None
    remark = f"{row.status}: {row.reason}" if row.status != "ok" else None if row.settled else "did not settle"
    return [
        row.format if row.name.startswith("Triton") else row.name,
        row.transport,
        row.concurrency,
        _number(row.clips_per_s, "{:.2f}"),
        _number(share, "{:.1f} %", 100),
        *(_number(value, "{:.1f}") for value in (row.p50_ms, row.p99_ms, row.queue_ms, row.compute_ms)),
        remark,
    ]


def _rows(found: dict[str, Any]) -> list[Row]:
    return [Row.model_validate(row) for row in found["rows"]]


def _number(value: float | None, form: str, factor: float = 1.0) -> str | None:
    return None if value is None else form.format(value * factor)


INFERENCE = single(
    "inference",
    "Scoring clips, every precision and runtime",
    "python -m benchmarks.inference {bundle} --data {data}",
    _inference,
)
INFERENCE_ON_GPU = single(
    "gpu-inference",
    "Scoring clips on a GPU",
    "vdeploy benchmark {bundle} --what pipeline --batch 1,8 --data {data}",
    _on_gpu,
    gpu=True,
)
SERVED = single(
    "served",
    "Scoring clips through Triton",
    "vdeploy benchmark {bundle} --what pipeline --format onnx-fp32,onnx-int8 --serve --concurrency 1,2,4",
    _served,
)
