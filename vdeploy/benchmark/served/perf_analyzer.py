"""NVIDIA's ``perf_analyzer``, run on a server: https://github.com/triton-inference-server/perf_analyzer.

The wheel of tritonclient 2.51.0 contains the program. It resends a single input unless it is given several. It needs
two libraries that a machine without CUDA lacks; a Triton from the nvidia-pytriton wheel brings them.
"""

from __future__ import annotations

import base64
import contextlib
import csv
import dataclasses
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from vdeploy.benchmark.record import Transport
from vdeploy.core.errors import BenchmarkError
from vdeploy.triton.server.install import local_install
from vdeploy.triton.server.reaper import SHARED_MEMORY

__all__ = ["Figures", "PerfAnalyzer", "PerfError", "Setting"]

_LIBRARIES = {"libb64.so.0d": "libb64-*.so.0d*", "libcudart.so.12": "libcudart-*.so.12*"}
"""Libraries that the program is linked with, and their names in the wheel of nvidia-pytriton."""

_TRIALS = 10
_LEAST_INTERVAL_MS = 500
_CALLS_A_WINDOW = 20
"""The program counts whole requests: with fewer in a window, one more or less would change the throughput."""
_SPARE_SECONDS = 60
_UNSTABLE = 2
_PERCENTILES = (50, 90, 95, 99)


class PerfError(Exception):
    """The program could not measure; the message says why."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """What to measure.

    Attributes:
        url: ``HOST:PORT`` of the server's gRPC interface.
        model: Name of the model.
        tensor: Name of its input.
        answer: Name of its output.
        batch: Clips per request.
        concurrency: Number of concurrent callers.
        transport: Transport of the input.
        call_seconds: Approximate time of a request; windows are several times as long.
    """

    url: str
    model: str
    tensor: str
    answer: str
    batch: int
    concurrency: int
    transport: Transport
    call_seconds: float


@dataclasses.dataclass(frozen=True)
class Figures:
    """Results of the program.

    Attributes:
        clips_per_s: Throughput.
        percentiles_ms: Latency of a request by percentile: 50, 90, 95 and 99.
        requests: Number of requests that were counted.
    """

    clips_per_s: float
    percentiles_ms: dict[int, float]
    requests: int


class PerfAnalyzer:
    """Runs ``perf_analyzer``.

    Args:
        binary: Path of the program.
        stability_percent: Largest difference of throughput within its last three windows.

    Raises:
        BenchmarkError: The program cannot be run.
    """

    def __init__(self, binary: Path, *, stability_percent: float = 10.0) -> None:
        self._binary, self._stability = binary, stability_percent
        try:
            done = self._run(["--version"], _SPARE_SECONDS)
        except (OSError, subprocess.TimeoutExpired) as error:
            reason = error.strerror if isinstance(error, OSError) else "it does not answer"
            raise BenchmarkError(
                f"{binary} cannot be run ({reason})", "give NVIDIA's perf_analyzer itself, made for this machine"
            ) from error
        if done.returncode:
            raise BenchmarkError(
                f"{binary} cannot be run ({_last_line(done)})",
                "install what it lacks; nvidia-pytriton brings libb64 and libcudart: vdeploy serve --launch fetches it",
            )

    def measure(self, setting: Setting, inputs: Sequence[npt.NDArray[Any]], seconds: float) -> Figures:
        """Measures a server until three windows agree.

        Args:
            setting: What to measure.
            inputs: Clips that are sent in turn, each without a batch axis.
            seconds: Least time of its three windows together.

        Raises:
            PerfError: The measurement did not become stable, or failed.
        """
        interval = max(_LEAST_INTERVAL_MS, seconds * 1000 / 3, 1000 * _CALLS_A_WINDOW * setting.call_seconds)
        with tempfile.TemporaryDirectory(prefix="vdeploy-perf-") as folder, _removing_regions(setting):
            data, table = Path(folder) / "inputs.json", Path(folder) / "figures.csv"
            data.write_text(json.dumps(_steps(setting.tensor, inputs)), encoding="ascii")
            arguments = [
                *("-m", setting.model, "-u", setting.url, "-i", "grpc", "-b", str(setting.batch)),
                *("--concurrency-range", str(setting.concurrency), "--input-data", str(data), "-f", str(table)),
                *("--measurement-interval", str(round(interval)), "--max-trials", str(_TRIALS)),
                *("--stability-percentage", str(self._stability)),
            ]
            if setting.transport == "shared memory":
                arguments.append("--shared-memory=system")
            try:
                done = self._run(arguments, 3 * _TRIALS * interval / 1000 + _SPARE_SECONDS)
            except subprocess.TimeoutExpired as error:
                raise PerfError(f"it had not ended after {error.timeout:.0f} s") from error
            if done.returncode == _UNSTABLE or not table.is_file():
                raise PerfError(_last_line(done))
            return _read(table, done.stdout)

    def _run(self, arguments: Sequence[str], seconds: float) -> subprocess.CompletedProcess[str]:
        with _environment() as environment:
            return subprocess.run(
                [str(self._binary.absolute()), *arguments],
                capture_output=True,
                text=True,
                errors="replace",
                env=environment,
                timeout=seconds,
                check=False,
            )


@contextlib.contextmanager
def _environment() -> Iterator[dict[str, str]]:
    """Environment with the libraries of an installed Triton, under the names that the program expects."""
    install = local_install()
    with tempfile.TemporaryDirectory(prefix="vdeploy-perf-lib-") as folder:
        links = Path(folder)
        for name, pattern in _LIBRARIES.items():
            if install and (found := next(install.libraries.glob(pattern), None)):
                (links / name).symlink_to(found)
        own = os.environ.get("LD_LIBRARY_PATH")
        yield os.environ | {"LD_LIBRARY_PATH": os.pathsep.join(filter(None, (own, folder)))}


@contextlib.contextmanager
def _removing_regions(setting: Setting) -> Iterator[None]:
    """Removes shared memory that the program leaves behind when it is killed."""
    names = re.compile(rf"{re.escape(setting.tensor)}_\d+_\d+|{re.escape(setting.answer)}")
    before = set(SHARED_MEMORY.glob("*"))
    try:
        yield
    finally:
        for region in set(SHARED_MEMORY.glob("*")) - before:
            if names.fullmatch(region.name):
                region.unlink(missing_ok=True)


def _steps(tensor: str, inputs: Sequence[npt.NDArray[Any]]) -> dict[str, Any]:
    return {
        "data": [
            {tensor: {"b64": base64.b64encode(array.tobytes()).decode("ascii"), "shape": list(array.shape)}}
            for array in inputs
        ]
    }


def _read(table: Path, output: str) -> Figures:
    with table.open(newline="", encoding="utf-8") as lines:
        line = next(iter(csv.DictReader(lines)), None)
    requests = re.search(r"Request count: (\d+)", output)
    try:
        return Figures(
            clips_per_s=float(line["Inferences/Second"]) if line else 0.0,
            percentiles_ms={p: float(line[f"p{p} latency"]) / 1000 for p in _PERCENTILES} if line else {},
            requests=int(requests[1]) if requests else 0,
        )
    except (KeyError, ValueError) as error:
        raise PerfError(f"its table is not as expected ({error!r})") from error


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line.strip() for line in (done.stdout + "\n" + done.stderr).splitlines() if line.strip()]
    return lines[-1] if lines else f"exit code {done.returncode}"
