"""Memory of an extractor in ONNX Runtime, computed from its graph and measured, by batch, with and without the arena.

Each measurement is a process that calls the extractor three times on noise; its peak is what the kernel counted. The
computation is the one by which `vdeploy serve` keeps an extractor within a limit. Fails where one is off by more than
`--allowed`.

    python -m benchmarks.extractor_memory BUNDLE ... [--batches 1,2] [--allowed 0.15]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.output import add_output_options, report_result
from vdeploy.artifacts.bundle import Bundle
from vdeploy.artifacts.onnx_graphs.memory import memory_of
from vdeploy.triton.planning.memory import process_bytes

FORMAT = "onnx-fp32"

_CALLS = """
import re, sys
import numpy as np, onnxruntime
path, arena, *shape = sys.argv[1:]
options = onnxruntime.SessionOptions()
options.enable_cpu_mem_arena = arena == "True"
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
clips = np.random.default_rng(0).integers(0, 256, [int(axis) for axis in shape], dtype=np.uint8)
for _ in range(3):
    session.run(None, {session.get_inputs()[0].name: clips})
print(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
"""


def main() -> None:
    """Measures each bundle and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("bundles", nargs="+", type=Path, metavar="BUNDLE")
    parser.add_argument("--batches", default="1,2", help="clips in a call, separated by commas")
    parser.add_argument("--allowed", type=float, default=0.15, help="how far a peak may be off, as a part of it")
    add_output_options(parser)
    arguments = parser.parse_args()
    batches = [int(part) for part in arguments.batches.split(",")]
    rows = [
        measure(bundle, clips, arena=arena)
        for bundle in map(Bundle, arguments.bundles)
        for clips in batches
        for arena in (True, False)
    ]
    lines = [
        f"{row['architecture']}, {row['clips']} clips, arena {'on' if row['arena'] else 'off'}: "
        f"computed {row['computed_bytes'] / 1e6:,.0f} MB, measured {row['measured_bytes'] / 1e6:,.0f} MB "
        f"({row['computed_bytes'] / row['measured_bytes'] - 1:+.0%})"
        for row in rows
    ]
    report_result(arguments, {"rows": rows}, "\n".join(lines))
    wrong = [row for row in rows if abs(row["computed_bytes"] / row["measured_bytes"] - 1) > arguments.allowed]
    if wrong:
        sys.exit(f"{len(wrong)} of {len(rows)} peaks are off by more than {arguments.allowed:.0%}")


def measure(bundle: Bundle, clips: int, *, arena: bool) -> dict[str, Any]:
    """One row: the peak of a process that extracts features of so many clips, computed and measured.

    Raises:
        SystemExit: The process failed, or the peak cannot be computed.
    """
    artifact, spec = bundle.artifact("extractor", FORMAT), bundle.manifest.clip_spec
    shape = (spec.frames, spec.size, spec.size, 3)
    memory = memory_of(bundle.path(artifact), {artifact.inputs[0].name: (1, *shape)})
    if memory is None:
        sys.exit(f"the memory of {bundle.root} cannot be computed")
    command = [sys.executable, "-c", _CALLS, str(bundle.path(artifact)), str(arena), str(clips), *map(str, shape)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{bundle.root}: {done.stderr.strip().splitlines()[-1]}")
    return {
        "architecture": bundle.manifest.extractor.architecture,
        "clips": clips,
        "arena": arena,
        "computed_bytes": process_bytes(memory, clips, arena=arena),
        "measured_bytes": 1024 * int(done.stdout),
    }


if __name__ == "__main__":
    main()
