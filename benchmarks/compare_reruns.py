"""False alarms and power of `vdeploy benchmark compare` on reruns of one bundle on this machine.

    python -m benchmarks.compare_reruns BUNDLE [--reruns 11] [--keep FOLDER] [--json] [--out FILE] [OPTION ...]

The bundle is measured again and again; further options are passed to ``vdeploy benchmark``. Each run is compared at
the default limit with the one before it, as it is, and with all timings of the later one made 10 % slower.
"""

from __future__ import annotations

import argparse
import itertools
import math
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.output import add_output_options, report_result
from vdeploy.benchmark.compare.comparison import compare
from vdeploy.benchmark.record import Benchmark, load_benchmark

SLOWDOWN = 1.10


def slowed(benchmark: Benchmark) -> Benchmark:
    """A benchmark as it would be if every call took 10 % longer."""
    rows = [
        row.model_copy(
            update={
                "p50_ms": None if row.p50_ms is None else SLOWDOWN * row.p50_ms,
                "windows_ms": tuple(SLOWDOWN * window for window in row.windows_ms),
            }
        )
        for row in benchmark.rows
    ]
    return benchmark.model_copy(update={"rows": tuple(rows)})


def rerun(bundle: Path, reruns: int, options: Sequence[str], folder: Path) -> list[dict[str, Any]]:
    """Measures a bundle again and again, and compares each run with the one before.

    Returns:
        For each pair: rows that were compared, rows reported as slower, and the same with the later run slowed down.
    """
    files = [folder / f"run{index:02}.json" for index in range(reruns)]
    for file in files:
        command = [sys.executable, "-m", "vdeploy", "benchmark", str(bundle), "--out", str(file), *options]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    runs = [load_benchmark(file) for file in files]
    pairs = []
    for before, after in itertools.pairwise(runs):
        plain, slower = compare(before, after), compare(before, slowed(after))
        judged = [change for change in plain.changes if change.verdict != "not judged"]
        pairs.append(
            {
                "judged": len(judged),
                "not_judged": len(plain.changes) - len(judged),
                "false_alarms": [change.label for change in plain.regressions],
                "found": len(slower.regressions),
                "changes": [change.ratio - 1 for change in judged if change.ratio is not None],
            }
        )
    return pairs


def as_text(pairs: Sequence[dict[str, Any]]) -> str:
    """The reruns as lines."""
    lines = [
        f"pair {index}: {pair['judged']} rows compared, {pair['not_judged']} not; false alarms: "
        f"{', '.join(pair['false_alarms']) or 'none'}; slowed by 10 %: {pair['found']} rows found; "
        f"largest change {max(map(abs, pair['changes']), default=math.nan):.1%}"
        for index, pair in enumerate(pairs, start=1)
    ]
    alarms = sum(bool(pair["false_alarms"]) for pair in pairs)
    found = sum(bool(pair["found"]) for pair in pairs)
    return "\n".join([*lines, f"false alarms in {alarms} of {len(pairs)} pairs, slowdown found in {found}"])


def main() -> None:
    """Measures and compares."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--reruns", type=int, default=11, help="how often to measure the bundle; at least 2")
    parser.add_argument("--keep", type=Path, help="folder for the measurements")
    add_output_options(parser)
    options, passed_on = parser.parse_known_args()
    if options.reruns < 2:
        parser.error("--reruns must be at least 2")
    with tempfile.TemporaryDirectory() as folder:
        pairs = rerun(options.bundle, options.reruns, passed_on, options.keep or Path(folder))
    report_result(options, {"slowdown": round(SLOWDOWN - 1, 3), "pairs": pairs}, as_text(pairs))


if __name__ == "__main__":
    main()
