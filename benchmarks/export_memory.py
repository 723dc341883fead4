"""Memory of an export: loading, writing, verification and evaluation, in all its processes.

Runs `vdeploy export` and samples its memory from outside, and that of the processes that it starts; pages that
processes share count once. The limit applies to private memory: all pages but those of mapped files, such as
TensorFlow's libraries, which the kernel drops when it needs memory, and whose number depends on what was read before.
Resident memory with those pages is reported as well. Fails where private memory is above the limit: four times the
extractor's FP32 weights, or the value of `--limit-gb`. Without a run, one of generated clips and random weights is made
first, with clips of 2 frames.

    python -m benchmarks.export_memory [RUN] [--layer fc2] [--format onnx-fp32] [--limit-gb 4] [-- OPTION ...]

Options after `--` are passed to `vdeploy export`.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.output import add_output_options, report_result
from vdeploy.artifacts.run import Run

TIMES = 4
"""The limit, as a multiple of the FP32 weights."""

PARAMETERS = {"avg": 20_024_384, "avg45": 20_024_384, "fc2": 139_570_240}
"""Weights of VGG19 up to a layer, as Keras counts them."""

_SAMPLE_SECONDS = 0.02
_LOOKS_PER_SAMPLE = 5
"""Samples of the process alone, which are cheap, between two samples of all its processes."""

_CLIPS = 16
_PHASE = re.compile(r"export: (?!load the run)|judge |quantize: ")
_BASELINE = "from vdeploy.core.lazy_imports import load_keras; load_keras(); print(open('/proc/self/status').read())"


@dataclasses.dataclass
class Watched:
    """Memory and processor time of a command.

    Attributes:
        phases: Peak memory of all its processes together, in bytes, by the last line that it had printed; including
            pages of files.
        own_bytes: Peak private memory of all its processes together.
        process_bytes: Peak memory of the process itself, including pages of files, as the kernel counts it.
        cpu_seconds: Processor time of all its processes, without the last tenth of a second.
    """

    phases: dict[str, int] = dataclasses.field(default_factory=dict)
    own_bytes: int = 0
    process_bytes: int = 0
    cpu_seconds: float = 0.0

    @property
    def tree_bytes(self) -> int:
        """Peak memory of all processes together."""
        return max(self.phases.values())


def main() -> None:
    """Exports once and prints what it took."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", nargs="?", type=Path)
    parser.add_argument("--layer", default="fc2", choices=["avg", "avg45", "fc2"], help="of the run that is made")
    parser.add_argument("--format", default="onnx-fp32")
    parser.add_argument("--limit-gb", type=float)
    add_output_options(parser)
    cut = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    arguments, options = parser.parse_args(sys.argv[1:cut]), sys.argv[cut + 1 :]
    with tempfile.TemporaryDirectory(prefix="vdeploy-memory-") as name:
        folder = Path(name)
        run = arguments.run
        if run is None:
            run, store = make_run(arguments.layer, folder)
            options += ["--store", str(store)]
        layer = str(Run.load(run).backbone.settings.layer)
        out = folder / "bundle"
        command = ["export", str(run), "--format", arguments.format, "--out", str(out), *options]
        watched = watch([sys.executable, "-m", "vdeploy", *command])
        files = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    weights = 4 * PARAMETERS[layer]
    limit = TIMES * weights if arguments.limit_gb is None else round(arguments.limit_gb * 1e9)
    found = {
        "layer": layer,
        "formats": arguments.format,
        "weights_bytes": weights,
        "bundle_bytes": files,
        "baseline_bytes": _status_bytes(_output([sys.executable, "-c", _BASELINE]), "VmHWM"),
        **dataclasses.asdict(watched),
        "tree_bytes": watched.tree_bytes,
        "limit_bytes": limit,
    }
    report_result(arguments, found, "\n".join(_lines(found)))
    if watched.own_bytes > limit:
        sys.exit(f"the export took more than {_gb(limit)} of private memory")


def make_run(layer: str, folder: Path) -> tuple[Path, Path]:
    """Trains on a few generated clips with random weights.

    Returns:
        The run and its feature store.
    """
    clips, run, store = folder / "clips", folder / "run", folder / "store"
    small = ("clip.frames=2", "training.epochs=4", "training.batch=8", "backbone.weights=random")
    settings = [part for setting in (*small, f"backbone.layer={layer}") for part in ("--set", setting)]
    for command in (
        ["data", "synth", str(clips), "--clips", str(_CLIPS)],
        ["train", str(clips), "--out", str(run), "--store", str(store), *settings],
    ):
        _output([sys.executable, "-m", "vdeploy", *command])
    return run, store


def watch(command: Sequence[str]) -> Watched:
    """Runs a command to its end and samples the memory of its processes.

    Raises:
        SystemExit: It failed.
    """
    watched, said = Watched(), ["start"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        reader = threading.Thread(target=_note, args=(process.stderr, said))
        reader.start()
        ended = False
        while not ended:
            # Left unreaped until the thread has read all, so that the kernel's own figures can still be read.
            ended = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None
            _sample(process.pid, _phase(said), watched)
            for _ in range(_LOOKS_PER_SAMPLE):
                _look(process.pid, watched)
                time.sleep(_SAMPLE_SECONDS)
        reader.join()
    if process.returncode:
        sys.exit(f"vdeploy export failed, code {process.returncode}: {said[-1]}")
    return watched


def _sample(pid: int, phase: str, watched: Watched) -> None:
    rollups = [_read(f"/proc/{number}/smaps_rollup") for number in _family(pid)]
    held = sum(_status_bytes(rollup, "Pss") for rollup in rollups)
    watched.phases[phase] = max(watched.phases.get(phase, 0), held)
    own = sum(_status_bytes(rollup, field) for rollup in rollups for field in ("Pss_Anon", "Pss_Shmem"))
    watched.own_bytes = max(watched.own_bytes, own)
    times = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    if times:
        watched.cpu_seconds = sum(map(int, times[11:15])) / os.sysconf("SC_CLK_TCK")


def _look(pid: int, watched: Watched) -> None:
    status = _read(f"/proc/{pid}/status")
    watched.own_bytes = max(watched.own_bytes, _status_bytes(status, "RssAnon") + _status_bytes(status, "RssShmem"))
    watched.process_bytes = max(watched.process_bytes, _status_bytes(status, "VmHWM"))


def _note(lines: Iterable[str], said: list[str]) -> None:
    said.extend(line.strip() for line in lines)


def _phase(said: list[str]) -> str:
    """The last line that begins something, without the figures behind it."""
    line = next((line for line in reversed(said) if _PHASE.match(line)), "load the run")
    return line.removeprefix("export: ") if line.startswith("export: ") else line.partition(":")[0]


def _family(pid: int) -> Iterator[int]:
    """A process and all that descend from it."""
    yield pid
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in _read(file).split():
            yield from _family(int(child))


def _read(file: str | Path) -> str:
    try:
        return Path(file).read_text(encoding="utf-8")
    except OSError:  # the process has ended
        return ""


def _status_bytes(text: str, field: str) -> int:
    found = re.search(rf"^{field}:\s+(\d+) kB$", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def _output(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command[2:4])} failed: {done.stderr.strip()}")
    return done.stdout


def _lines(found: dict[str, Any]) -> Iterator[str]:
    width = max(map(len, found["phases"]))
    for phase, held in found["phases"].items():
        yield f"{phase:{width}}  {_gb(held)}"
    weights = found["weights_bytes"]
    own = found["own_bytes"]
    yield f"private memory: {_gb(own)} at most, {own / weights:.2f} times the FP32 weights ({_gb(weights)})"
    for what, key in (("all processes together", "tree_bytes"), ("the process", "process_bytes")):
        yield f"{what}, with pages of files: {_gb(found[key])} at most, {found[key] / weights:.2f} times"
    yield f"TensorFlow and Keras, imported: {_gb(found['baseline_bytes'])}"
    yield f"processor time: {found['cpu_seconds']:.0f} s; limit: {_gb(found['limit_bytes'])}"


def _gb(count: int) -> str:
    return f"{count / 1e9:.2f} GB"


if __name__ == "__main__":
    main()
