"""What `benchmark.json` holds: the machine, what it can do at best, and a row for everything that was measured.

Units stand in the names: ``_ms`` milliseconds, ``_mhz`` megahertz, ``_bytes`` bytes, ``_per_s`` a second. Shares lie
between 0 and 1. What is unknown, or was not measured, is ``None``.
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
SCHEMA_VERSION = "1.1"
"""A minor version adds fields that have defaults; a major one may change anything."""

IN_PROCESS = "in process"
"""Where a row ran that no server was asked for."""

Workload = Literal["extractor", "classifier", "pipeline", "video"]
"""Frames to features, features to probabilities, frames to probabilities, and a video file to probabilities."""

Status = Literal["ok", "failed parity", "absent", "error"]
"""Measured; refused by the export; cannot run here; should have run and did not."""

Transport = Literal["grpc", "shared memory"]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Environment(_Model):
    """The machine and what ran on it."""

    cpu: str = Field(description="model name")
    cores: int = Field(description="cores that the benchmark was allowed to use")
    threads: int = Field(description="threads that each call was given")
    clocks_mhz: tuple[float, ...] = Field(description="clock of each core when the benchmark began; empty if unknown")
    memory_bytes: int | None
    gpu: str | None = Field(description="name of the first GPU")
    driver: str | None = Field(description="version of its driver")
    system: str
    python: str
    versions: dict[str, str] = Field(description="by package; only those that are installed")
    load_average: tuple[float, float, float] = Field(description="over 1, 5 and 15 minutes, when the benchmark began")


class Peak(_Model):
    """The fastest arithmetic that was seen on this machine in one data type, in the same run."""

    data_type: str = Field(description="as the precision of rows: fp32, int8, ...")
    gflops: float = Field(description="10^9 additions and multiplications a second; of integers where the type is one")
    how: str = Field(description="what was computed, and in what")


class Shares(_Model):
    """Where the time of a video goes; the shares of a row add up to 1."""

    decode: float
    extract: float | None = Field(None, description="None where a server does both stages")
    classify: float | None = None
    transport: float | None = Field(None, description="to the server and back, its waiting included")


class ServerTime(_Model):
    """Where a request's time goes in one of the server's models, by its own statistics over the measuring time.

    Times are means of the requests; a request that was computed in a batch with others has the batch's time.
    """

    requests: int
    executions: int = Field(description="batches that the requests were computed in")
    queue_ms: float = Field(description="waiting for the model, or for a fuller batch")
    compute_input_ms: float
    compute_infer_ms: float
    compute_output_ms: float

    @property
    def compute_ms(self) -> float:
        """All but the waiting."""
        return self.compute_input_ms + self.compute_infer_ms + self.compute_output_ms


class Row(_Model):
    """One thing in one setting, measured, or the reason why it was not."""

    what: Workload
    where: str = Field(description="'in process', or HOST:PORT of the server")
    name: str = Field(description="the format, or what a peer is called")
    format: str = Field(description="format of the bundle's file that runs")
    peer: bool = Field(False, description="whether the bundle's own way would be another runtime")
    precision: str
    runtime: str
    device: str = "cpu"
    batch: int = Field(description="clips a call")
    threads: int = Field(description="threads a call")
    concurrency: int = Field(1, description="callers at once")
    transport: Transport | None = None
    status: Status
    reason: str | None = Field(None, description="why it was not measured")
    warmup_calls: int = 0
    calls: int = Field(0, description="calls that were timed")
    p50_ms: float | None = None
    p90_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    clips_per_s: float | None = None
    frames_per_s: float | None = None
    windows_ms: tuple[float, ...] = Field((), description="median call of each window, in the order of time")
    spread: float | None = Field(None, description="(largest - smallest) / median of the last windows")
    settled: bool = Field(False, description="whether the spread is under the limit; otherwise the row is not ranked")
    size_bytes: int | None = Field(None, description="on disk, all that the row needs")
    peak_memory_bytes: int | None = Field(None, description="of the row's own process, the runtime included")
    accuracy: float | None = None
    auc: float | None = Field(None, description="area under the ROC curve")
    agreement: float | None = Field(None, description="share of held-out clips with the reference's verdict")
    held_out_clips: int | None = None
    held_out_from: Literal["this run", "manifest"] | None = None
    flop_per_clip: float | None = Field(None, description="2 for each multiply-add of convolutions and products")
    gflops: float | None = Field(None, description="achieved, 10^9 a second")
    peak_share: float | None = Field(None, description="of the measured peak of the precision")
    queue_ms: float | None = Field(None, description="served: mean wait of a request in the server, all stages")
    compute_ms: float | None = Field(None, description="served: mean time of a request in the server's models")
    server: dict[str, ServerTime] = Field({}, description="served: by stage; empty where the server does not tell")
    other_requests: int = Field(0, description="served: requests of other callers meanwhile, as the server counts")
    in_process_clips_per_s: float | None = Field(
        None, description="served: what the same files did in process, measured in turns with this row"
    )
    perf_analyzer_clips_per_s: float | None = Field(
        None, description="served: what NVIDIA's perf_analyzer found on the same server in the same setting"
    )
    shares: Shares | None = None

    @property
    def ranked(self) -> bool:
        """Whether its speed may be compared with others'."""
        return self.status == "ok" and self.settled

    def __hash__(self) -> int:
        return hash(self.key)

    @property
    def key(self) -> tuple[str | int | None, ...]:
        """What makes two rows of two files the same measurement; the server's address does not matter."""
        served = self.where != IN_PROCESS
        setting = (self.batch, self.threads, self.concurrency, self.transport)
        return (self.what, served, self.name, self.precision, self.runtime, self.device, *setting)


class Benchmark(_Model):
    """What `benchmark.json` holds."""

    kind: Literal["vdeploy benchmark"] = "vdeploy benchmark"
    schema_version: str = SCHEMA_VERSION
    created: str = Field(description="ISO 8601 with time zone")
    command: str = Field(description="what was typed")
    vdeploy_version: str
    bundle: str = Field(description="its folder")
    run: str = Field(description="name of the run that it came from")
    sha256: dict[str, str] = Field(description="of 'classifier', 'weights', and each artifact by STAGE/FORMAT")
    clip_frames: int
    clip_size: int = Field(description="height and width of a frame in pixels")
    layer: str = Field(description="of VGG19, that the features come from")
    environment: Environment
    peaks: tuple[Peak, ...]
    rows: tuple[Row, ...]

    def peak(self, data_type: str) -> Peak | None:
        """The measured peak of a data type, if there is one."""
        return next((peak for peak in self.peaks if peak.data_type == data_type), None)


def load_benchmark(path: Path) -> Benchmark:
    """Reads a `benchmark.json`.

    Raises:
        BenchmarkError: It cannot be read, is something else, or was written by a newer vdeploy.
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
    """Writes a `benchmark.json` atomically; its folder is made."""
    write_json(path, benchmark.model_dump(mode="json"))


def _is_newer(version: str) -> bool:
    own = [int(part) for part in SCHEMA_VERSION.split(".")]
    parts = [int(part) for part in version.split(".") if part.isdigit()]
    return parts > own
