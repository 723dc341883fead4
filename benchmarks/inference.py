"""Speed of scoring clips in every available precision and runtime, side by side in one run, with the target ratios.

    python -m benchmarks.inference BUNDLE [--data CLIPS] [--clips N] [--seconds 5] [--threads N] [--out benchmark.json]

The bundle should hold onnx-fp32, onnx-int8 and savedmodel, better the tflite-* and openvino-* formats as well; OpenVINO
takes part where it is installed, on the ONNX files where the bundle has no format for it. All rows are frames to
probabilities, one clip per call. With ``--data``, every row scores the held-out clips and is compared with the first
format in full precision; without it, the figures of the export are printed.

Our best in a precision is the fastest of the bundle's formats, each in its own runtime. It is compared with the fastest
row of any other runtime in the run that reads the same weights in that precision, a peer's or our own: a ratio of a
runtime to itself is not meaningful.

The exit code is 1 if a ratio misses its goal. Ratios without rows are left out.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from vdeploy.benchmark.bundle_benchmark import benchmark_bundle
from vdeploy.benchmark.plan import PEERS, Plan
from vdeploy.benchmark.record import Benchmark, Row, save_benchmark
from vdeploy.benchmark.report.table import COLUMNS, choose_reference, table_rows, title_of
from vdeploy.core.errors import UserError


@dataclasses.dataclass(frozen=True)
class Ratio:
    """A claim about two rows.

    Attributes:
        name: Name of the ratio.
        rows: Names of the two rows, the one that should be ahead first.
        value: How many times as fast the first one is, by the median call.
        goal: At least this.
        settled: Whether both rows did.
    """

    name: str
    rows: tuple[str, str]
    value: float
    goal: float
    settled: bool

    @property
    def met(self) -> bool:
        """Whether the goal is reached."""
        return self.value >= self.goal


def ratios(benchmark: Benchmark) -> list[Ratio]:
    """The ratios that can be made of a benchmark's rows."""
    rows = [row for row in benchmark.rows if row.what == "pipeline" and row.p50_ms]
    own = [row for row in rows if not row.peer]
    pairs = (
        ("INT8 to FP32, ONNX Runtime", _named(rows, "onnx-int8"), _named(rows, "onnx-fp32"), 3.5),
        ("best INT8 to FP32, ONNX Runtime", _fastest(own, "int8"), _named(rows, "onnx-fp32"), 3.5),
        ("best FP32 to the best other runtime's", *_best_and_other(rows, "fp32"), 0.95),
        ("best INT8 to the best other runtime's", *_best_and_other(rows, "int8"), 0.95),
        ("best of all to model.predict", _fastest(own), _fastest(_of(rows, "tensorflow-predict")), 3.5),
    )
    return [
        Ratio(
            name, (one.name, other.name), (other.p50_ms or 0) / (one.p50_ms or 1), goal, one.settled and other.settled
        )
        for name, one, other, goal in pairs
        if one is not None and other is not None
    ]


def _best_and_other(rows: Iterable[Row], precision: str) -> tuple[Row | None, Row | None]:
    """Our fastest row, and the fastest of all that run in another runtime."""
    listed = list(rows)
    best = _fastest((row for row in listed if not row.peer), precision)
    others = (row for row in listed if best is not None and row.runtime != best.runtime)
    return best, _fastest(others, precision)


def _fastest(rows: Iterable[Row], precision: str | None = None) -> Row | None:
    candidates = [row for row in rows if precision in (None, row.precision)]
    return min(candidates, key=lambda row: row.p50_ms or float("inf"), default=None)


def _named(rows: Iterable[Row], name: str) -> Row | None:
    return next((row for row in rows if row.name == name), None)


def _of(rows: Iterable[Row], runtime: str) -> list[Row]:
    return [row for row in rows if row.runtime == runtime]


def show(benchmark: Benchmark, found: Iterable[Ratio]) -> None:
    """Prints both tables and what they were measured with."""
    console = Console(width=220, highlight=False, markup=False)
    reference = choose_reference(benchmark, None)
    console.print(title_of(benchmark, reference))
    console.print(", ".join(f"{name} {version}" for name, version in benchmark.environment.versions.items()))
    table = Table(*COLUMNS, box=None, pad_edge=False)
    for cells in table_rows(benchmark, reference):
        table.add_row(*("" if cell is None else str(cell) for cell in cells))
    console.print(table)
    summary = Table("ratio", "times", "goal", "", "of", "to", box=None, pad_edge=False)
    for ratio in found:
        verdict = ("met" if ratio.met else "missed") + ("" if ratio.settled else ", not settled")
        summary.add_row(ratio.name, f"{ratio.value:.2f}", f"{ratio.goal:.2f}", verdict, *ratio.rows)
    console.print(summary)


def main(arguments: list[str] | None = None) -> int:
    """Measures and prints.

    Returns:
        0 if every ratio reaches its goal, 1 if one does not, 2 for an error of the user.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--data", type=Path, help="labelled clips, of which the held-out ones are scored")
    parser.add_argument("--clips", type=int, help="how many of them (default: all)")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each row (default: 5)")
    parser.add_argument("--threads", type=int, help="threads per call (default: all cores)")
    parser.add_argument("--format", help="formats, separated by commas (default: all of the bundle)")
    parser.add_argument("--peers", default=",".join(PEERS), help="peers, separated by commas (default: all)")
    parser.add_argument("--json", action="store_true", help="print the ratios as JSON")
    parser.add_argument("--out", type=Path, help="write the benchmark to this file")
    options = parser.parse_args(arguments)
    plan = Plan(
        workloads=("pipeline",),
        formats=tuple(options.format.split(",")) if options.format else None,
        seconds=options.seconds,
        threads=options.threads,
        peers=tuple(options.peers.split(",")),
        data=options.data,
        clips=options.clips,
    )
    try:
        benchmark = benchmark_bundle(options.bundle, plan)
        if options.out:
            save_benchmark(options.out, benchmark)
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    found = ratios(benchmark)
    if options.json:
        print(json.dumps([{**dataclasses.asdict(ratio), "met": ratio.met} for ratio in found], indent=2))
    else:
        show(benchmark, found)
    return 0 if all(ratio.met for ratio in found) else 1


if __name__ == "__main__":
    sys.exit(main())
