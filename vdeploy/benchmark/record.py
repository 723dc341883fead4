"""The contents of `benchmark.json`: the machine, its measured peaks, and the rows.

Names carry their unit: ``_ms`` milliseconds, ``_mhz`` megahertz, ``_bytes`` bytes, ``_per_s`` per second. Shares are
between 0 and 1. Values that are unknown or were not measured are ``None``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vdeploy.core.errors import BenchmarkError
from vdeploy.core.files import write_json

__all__ = [
    "IN_PROCESS",
    "KIND",
    "SCHEMA_VERSION",
    "Benchmark",
    "Environment",
    "Peak",
    "Row",
    "ServerTime",
    "Shares",
    "Status",
    "Transport",
    "Workload",
    "load_benchmark",
    "save_benchmark",
]

KIND = "vdeploy benchmark"
SCHEMA_VERSION = "1.2"
"""A minor version adds fields with defaults; a major version may change anything."""

IN_PROCESS = "in process"
"""Value of `Row.where` for rows without a server."""

Workload = Literal["extractor", "classifier", "pipeline", "video"]
"""Frames to features, features to probabilities, frames to probabilities, and a video file to probabilities."""

Status = Literal["ok", "failed parity", "absent", "error"]
"""Measured; rejected by the export; cannot run on this machine; failed while it was measured."""

Transport = Literal["grpc", "shared memory"]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Environment(_Model):
    """The machine and its software."""

    cpu: str = Field(description="model name")
    cores: int = Field(description="cores available to the benchmark")
    threads: int = Field(description="threads per call")
    clocks_mhz: tuple[float, ...] = Field(description="clock of each core when the benchmark began; empty if unknown")
    memory_bytes: int | None
    gpu: str | None = Field(description="name of the first GPU")
    driver: str | None = Field(description="version of its driver")
    system: str
    python: str
    versions: dict[str, str] = Field(description="by package, of those that are installed")
    load_average: tuple[float, float, float] = Field(description="over 1, 5 and 15 minutes, when the benchmark began")


class Peak(_Model):
    """The highest rate of arithmetic in one data type that was measured in the same run."""

    data_type: str = Field(description="as the precision of rows: fp32, int8, ...")
    gflops: float = Field(description="10^9 additions and multiplications per second, of integers for an integer type")
    how: str = Field(description="the kernel and its library")


class Shares(_Model):
    """Shares of the parts in the time of a video; they add up to 1."""

    decode: float
    extract: float | None = Field(None, description="None where a server runs both stages")
    classify: float | None = None
    transport: float | None = Field(None, description="to the server and back, including its queue")


class ServerTime(_Model):
    """Mean times of a request in one model of a server, from the server's statistics.

    A request that was computed in a batch with others has the time of the batch.
    """

    requests: int
    executions: int = Field(description="batches that the requests were computed in")
    queue_ms: float = Field(description="time in the queue, for the model or for a fuller batch")
    compute_input_ms: float
    compute_infer_ms: float
    compute_output_ms: float

    @property
    def compute_ms(self) -> float:
        """All times except the queue."""
        return self.compute_input_ms + self.compute_infer_ms + self.compute_output_ms


class Row(_Model):
    """One workload in one setting: its figures, or the reason why it was not measured."""

    what: Workload
    where: str = Field(description="'in process', or HOST:PORT of the server")
    name: str = Field(description="the format, or the name of a peer")
    format: str = Field(description="format of the artifacts that run")
    peer: bool = Field(False, description="whether the runtime is another than the format's own")
    precision: str
    runtime: str
    device: str = "cpu"
    batch: int = Field(description="clips per call")
    threads: int = Field(description="threads per call")
    concurrency: int = Field(1, description="number of concurrent callers")
    transport: Transport | None = None
    status: Status
    reason: str | None = Field(None, description="reason why it was not measured")
    warmup_calls: int = 0
    calls: int = Field(0, description="number of timed calls")
    p50_ms: float | None = None
    p90_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    clips_per_s: float | None = None
    frames_per_s: float | None = None
    windows_ms: tuple[float, ...] = Field((), description="median call of each window, in chronological order")
    spread: float | None = Field(None, description="(largest - smallest) / median of the last windows")
    settled: bool = Field(False, description="whether the spread is under the limit; otherwise the row is not ranked")
    size_bytes: int | None = Field(None, description="size of the artifacts on disk")
    peak_memory_bytes: int | None = Field(None, description="of the process of the row, including the runtime")
    accuracy: float | None = None
    auc: float | None = Field(None, description="area under the ROC curve")
    agreement: float | None = Field(None, description="share of held-out clips with the reference's verdict")
    held_out_clips: int | None = None
    held_out_from: Literal["this run", "manifest"] | None = None
    flop_per_clip: float | None = Field(None, description="a multiply-add counts as 2; see vdeploy.export.onnx.flops")
    gflops: float | None = Field(None, description="achieved, 10^9 operations per second")
    peak_share: float | None = Field(None, description="of the measured peak of the precision")
    queue_ms: float | None = Field(None, description="served: mean wait of a request in the server, all stages")
    compute_ms: float | None = Field(None, description="served: mean time of a request in the server's models")
    server: dict[str, ServerTime] = Field({}, description="served: by stage; empty without statistics of the server")
    other_requests: int = Field(0, description="served: requests of other clients at the same time")
    in_process_clips_per_s: float | None = Field(
        None, description="served: the same artifacts in process, measured in turns with this row"
    )
    perf_analyzer_clips_per_s: float | None = Field(
        None, description="served: NVIDIA's perf_analyzer on the same server in the same setting"
    )
    shares: Shares | None = None

    @property
    def ranked(self) -> bool:
        """Whether its speed can be compared with that of other rows."""
        return self.status == "ok" and self.settled

    def __hash__(self) -> int:
        return hash(self.key)

    @property
    def key(self) -> tuple[str | int | None, ...]:
        """Identifies the same measurement in two files; the address of the server is not part of it."""
        served = self.where != IN_PROCESS
        setting = (self.batch, self.threads, self.concurrency, self.transport)
        return (self.what, served, self.name, self.precision, self.runtime, self.device, *setting)


class Benchmark(_Model):
    """The contents of `benchmark.json`."""

    kind: Literal["vdeploy benchmark"] = "vdeploy benchmark"
    schema_version: str = SCHEMA_VERSION
    created: str = Field(description="ISO 8601 with time zone")
    command: str = Field(description="the command line")
    vdeploy_version: str
    bundle: str = Field(description="its folder")
    run: str = Field(description="name of the exported run")
    sha256: dict[str, str] = Field(description="of 'classifier', 'weights', and each artifact by STAGE/FORMAT")
    clip_frames: int
    clip_size: int = Field(description="height and width of a frame in pixels")
    layer: str = Field(description="of VGG19 that the features come from; else the name of the backbone")
    held_out_sha256: str | None = Field(
        None, description="of the contents and labels of the clips that rows were judged on; None without --data"
    )
    environment: Environment
    peaks: tuple[Peak, ...]
    rows: tuple[Row, ...]

    def peak(self, data_type: str) -> Peak | None:
        """The measured peak of a data type, if there is one."""
        return next((peak for peak in self.peaks if peak.data_type == data_type), None)


def load_benchmark(path: Path) -> Benchmark:
    """Reads a `benchmark.json`.

    Args:
        path: The file.

    Raises:
        BenchmarkError: The file cannot be read, is no benchmark, or was written by a newer vdeploy.
    """
    try:
        values: Any = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BenchmarkError(f"{path} cannot be read ({error.strerror or error})", "check the path") from error
    except (ValueError, RecursionError) as error:
        raise BenchmarkError(
            f"{path} is no JSON ({error})", "give the file that vdeploy benchmark --out wrote"
        ) from error
    if not isinstance(values, dict) or values.get("kind") != KIND:
        raise BenchmarkError(f"{path} is no benchmark", "give the file that vdeploy benchmark --out wrote")
    version = str(values.get("schema_version"))
    if _is_newer(version):
        raise BenchmarkError(
            f"{path} has schema version {version}, this vdeploy reads {SCHEMA_VERSION}", "use the vdeploy that wrote it"
        )
    try:
        return Benchmark.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BenchmarkError(f"{path}: {where}: {first['msg']}", "measure again: vdeploy benchmark") from error


def save_benchmark(path: Path, benchmark: Benchmark) -> None:
    """Writes a `benchmark.json` atomically; its folder is created."""
    write_json(path, benchmark.model_dump(mode="json"))


def _is_newer(version: str) -> bool:
    own = [int(part) for part in SCHEMA_VERSION.split(".")]
    parts = [int(part) for part in version.split(".") if part.isdigit()]
    return parts > own
