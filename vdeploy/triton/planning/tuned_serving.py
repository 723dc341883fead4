"""The serving configuration that `vdeploy tune-serving` has found for a bundle on this machine."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Collection
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from vdeploy.artifacts.bundle import Bundle
from vdeploy.core.processor import cpu_name
from vdeploy.core.progress import say
from vdeploy.inference.machine_record import MachineRecord, read_record
from vdeploy.inference.runtimes.base import available_cores
from vdeploy.triton.planning.plans import StageRequest
from vdeploy.triton.repository.backends import Backend
from vdeploy.triton.repository.options import ServingOptions

__all__ = ["Configuration", "Goal", "HeldRate", "LoadKind", "TunedServing", "load_tuned", "with_tuned"]

Goal = Literal["throughput", "cost"]

LoadKind = Literal["clips", "frames", "streams"]
"""What is sent: clips, frames of cameras, or frames of streams whose windows the server keeps."""

_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Rate = Annotated[float, Field(ge=0, allow_inf_nan=False)]

_UNTUNED = ("gpus", "memory_gb", "accelerate")
"""Options of another kind of serving than was measured."""


@dataclasses.dataclass(frozen=True)
class Configuration:
    """One way to serve a bundle.

    Attributes:
        backend: What runs ONNX files.
        extractor: Format of the extractor.
        classifier: Format of the classifier.
        instances: Copies of each stage.
        instance_threads: Threads of each copy of the extractor.
        max_batch: Clips that are computed together at most.
        latency_budget_ms: What decides how long to wait for a fuller batch; see `ServingOptions`.
    """

    backend: Backend
    extractor: str
    classifier: str
    instances: int
    instance_threads: int
    max_batch: int
    latency_budget_ms: float | None

    @property
    def options(self) -> dict[str, Any]:
        """The fields of `ServingOptions` that it decides."""
        return {
            "instances": self.instances,
            "threads": self.instances * self.instance_threads,
            "max_batch": self.max_batch,
            "latency_budget_ms": self.latency_budget_ms,
        }

    def request(self) -> StageRequest:
        """What `vdeploy serve` would be asked for."""
        return StageRequest(
            self.backend, extractor=self.extractor, classifier=self.classifier, options=ServingOptions(**self.options)
        )

    def __str__(self) -> str:
        formats = self.extractor if self.extractor == self.classifier else f"{self.extractor} and {self.classifier}"
        wait = ServingOptions(latency_budget_ms=self.latency_budget_ms).extractor_delay_microseconds / 1000
        batches = "no batches" if self.max_batch == 1 else f"batches of {self.max_batch} within {wait:.3g} ms"
        return f"{formats}, {self.instances} x {self.instance_threads} threads, {batches}"


class HeldRate(BaseModel):
    """The highest rate that a configuration held."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    clips_per_s: _Rate = Field(description="frames count as that part of a clip which they are")
    low: _Rate | None = Field(None, description="lower end of its 95 % interval, where there are several measurements")
    high: _Rate | None = None
    p99_ms: _Positive | None = Field(None, description="of the latencies at that rate")
    cpu_s_per_clip: _Positive | None = Field(None, description="processor time of the server")

    def __str__(self) -> str:
        interval = "" if self.low is None or self.high is None else f" ({self.low:.3g} to {self.high:.3g})"
        return f"{self.clips_per_s:.3g} clips/s{interval}"


class TunedServing(MachineRecord):
    """The best configuration for a bundle on this machine."""

    folder: ClassVar[str] = "serving"

    kind: Literal["vdeploy serving"] = "vdeploy serving"
    schema_version: Literal["1.0"] = "1.0"
    vdeploy_version: str
    measured: str = Field(pattern=r"^\d{4}-\d\d-\d\dT", description="when, ISO 8601 with time zone")
    slo_p99_ms: _Positive = Field(description="latency objective")
    goal: Goal
    load: LoadKind = Field("clips", description="what was sent")
    arrivals: str = Field(description="when it was sent")
    requests: int = Field(description="of each rate that was tried, at least")
    trials: int
    configuration: Configuration
    held: HeldRate = Field(description="by arrivals that chose nothing")
    defaults: Configuration = Field(description="what is served otherwise")
    defaults_held: HeldRate


def load_tuned(bundle: Bundle) -> TunedServing | None:
    """Reads what was found for a bundle on this machine; a file that does not count is reported in a line."""
    remedy = f"vdeploy tune-serving {shlex.quote(str(bundle.root))} --slo-p99-ms MS"
    return read_record(TunedServing, bundle.manifest.digest, cpu_name(), available_cores(), remedy)


def with_tuned(request: StageRequest, record: TunedServing, kept: Collection[str] = ()) -> StageRequest:
    """Lets a record decide what the user has not named, and says so.

    Formats and backend belong together: where one of them is named, or GPUs or a limit of memory, the record decides
    nothing.

    Args:
        request: What the user asks for; its `changes` are the options that were named.
        record: What was found.
        kept: Options that stay as they are all the same.
    """
    asked = {
        "backend": request.backend not in {None, "auto"},
        "precision": request.precision is not None,
        "extractor_format": request.extractor is not None,
        "classifier_format": request.classifier is not None,
        **{name: name in request.changes for name in _UNTUNED},
    }
    if named := [f"--{name.replace('_', '-')}" for name, is_named in asked.items() if is_named]:
        say(f"tuned: what was found by tune-serving is not used, because of {', '.join(named)}")
        return request
    found, chosen = record.configuration, record.configuration.options
    options = {name: value for name, value in chosen.items() if name not in request.changes and name not in kept}
    others = [f"--{name.replace('_', '-')}" for name in chosen if name not in options]
    say(
        f"tuned: {found}: {record.held} with a p99 of {record.slo_p99_ms:g} ms, measured with {record.load} on "
        f"{record.measured[:10]}"
        f"{'; otherwise ' + ', '.join(others) if others else ''}; --no-tuned leaves it out"
    )
    return dataclasses.replace(
        request,
        backend=found.backend,
        extractor=found.extractor,
        classifier=found.classifier,
        options=dataclasses.replace(request.options, **options),
        changes=options | dict(request.changes),
    )
