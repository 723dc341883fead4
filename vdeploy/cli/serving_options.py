"""Options of how models are run, which `serve` and `deploy` share; those of `ServingOptions`."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from vdeploy.triton.planning.server_facts import Target

__all__ = ["ServingFlags", "TargetFlags", "ThreadsOption", "TunedOption", "named_options", "reset_options"]

_Instances = Annotated[int | None, typer.Option(help="Copies of each stage, on each GPU if there are any.")]
_Gpus = Annotated[
    str | None,
    typer.Option(help="Numbers of the GPUs to place both stages on: 0,1. Never named, the CPU.", show_default=False),
]
_LatencyBudget = Annotated[
    float | None,
    typer.Option(help="What a request may take; a tenth of it may be spent waiting for a fuller batch."),
]
_MaxBatch = Annotated[int | None, typer.Option(help="Clips in a request at most.")]
_MaxQueue = Annotated[
    int | None,
    typer.Option(
        help="Bound each stage's queue to this many requests, none older than the latency budget. Off unless asked "
        "for: with any bound, Triton 2.51 stalls for up to half a second per batch."
    ),
]
_LoadedVersions = Annotated[
    int | None, typer.Option(help="Versions that stay in memory; older ones stay on disk in any case.")
]
_Warmup = Annotated[
    str | None,
    typer.Option(help="Batch sizes to try before a stage is ready: 1,8. Never named, 1; on GPUs the largest too."),
]
_Accelerate = Annotated[
    bool | None,
    typer.Option(
        "--accelerate",
        help="Let ONNX Runtime hand over to TensorRT on the GPUs. It builds engines at the start: allow for it by "
        "a longer time limit.",
    ),
]
_Memory = Annotated[
    float | None,
    typer.Option(
        help="Gigabytes that the server may take: batches become smaller, and what cannot fit is refused. Never named, "
        "the memory of this machine or container, where the server is here."
    ),
]
_Streams = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Have the server keep the windows of N live streams at most, for clients that send single frames; 0 "
        "stops that. [default: as it is in the repository, none in a new one]",
        show_default=False,
    ),
]
ThreadsOption = Annotated[
    int | None, typer.Option(help="Cores for the backbone, which its copies share; all if never named.")
]

TunedOption = Annotated[
    bool,
    typer.Option(
        "--tuned/--no-tuned",
        help="Take what vdeploy tune-serving has found for BUNDLE on this machine, where no option says otherwise.",
    ),
]


_TargetSm = Annotated[
    str | None, typer.Option(help="Compute capability or name of the GPU that serves, where it cannot be read here.")
]
_TargetTrt = Annotated[
    str | None, typer.Option(help="TensorRT of the server, such as 10.13.2, where it cannot be read here.")
]
_TargetOrt = Annotated[
    str | None, typer.Option(help="ONNX Runtime of the server, such as 1.20.1, where it cannot be read here.")
]


@dataclasses.dataclass(frozen=True)
class TargetFlags:
    """The server that a bundle is for, where it cannot be asked."""

    target_sm: _TargetSm = None
    target_trt: _TargetTrt = None
    target_ort: _TargetOrt = None

    def parse(self) -> Target:
        """What the command line says of the server.

        Raises:
            UserError: A value is no GPU, or no version.
        """
        from vdeploy.export.tensorrt.targets import parse_targets  # noqa: PLC0415  keeps --help fast
        from vdeploy.triton.planning.server_facts import Target, parse_version  # noqa: PLC0415  keeps --help fast

        return Target(
            capabilities=() if self.target_sm is None else parse_targets(self.target_sm),
            tensorrt=None if self.target_trt is None else parse_version(self.target_trt),
            onnxruntime=None if self.target_ort is None else parse_version(self.target_ort),
        )


@dataclasses.dataclass(frozen=True)
class ServingFlags:
    """How the stages are run; what is not named stays as it is."""

    instances: _Instances = None
    gpus: _Gpus = None
    latency_budget_ms: _LatencyBudget = None
    max_batch: _MaxBatch = None
    max_queue: _MaxQueue = None
    loaded_versions: _LoadedVersions = None
    warmup: _Warmup = None
    accelerate: _Accelerate = None
    memory_gb: _Memory = None
    streams: _Streams = None

    def named(self, threads: int | None) -> dict[str, Any]:
        """The options that a user has named, as `named_options` gives them."""
        return named_options(**dataclasses.asdict(self), threads=threads)


def named_options(**values: Any) -> dict[str, Any]:
    """The options that a user has named, as `ServingOptions` takes them.

    Args:
        **values: What the command line says, by name of the option; `None` where it says nothing.

    Raises:
        RepositoryError: A value is no list of numbers, or out of its range.
    """
    from vdeploy.triton.repository.options import StreamOptions, parse_numbers  # noqa: PLC0415  keeps --help fast

    named = {name: value for name, value in values.items() if value is not None}
    for name, option in (("gpus", "--gpus"), ("warmup", "--warmup")):
        if name in named:
            named[name] = parse_numbers(named[name], option)
    if "warmup" in named:
        named["warmup_batches"] = named.pop("warmup")
    if "streams" in named:
        named["streams"] = StreamOptions(named["streams"])
    return named


def reset_options(names: list[str]) -> dict[str, Any]:
    """The defaults of options, by name.

    Args:
        names: Names as on the command line, such as `max-batch`, with or without the dashes in front.

    Raises:
        RepositoryError: There is no such option.
    """
    from vdeploy.core.errors import RepositoryError  # noqa: PLC0415  keeps --help fast
    from vdeploy.triton.repository.options import ServingOptions  # noqa: PLC0415  keeps --help fast

    defaults = {field.name: field.default for field in dataclasses.fields(ServingOptions) if field.name != "streams"}
    found = {}
    for name in names:
        field = {"warmup": "warmup_batches"}.get(bare := name.strip("-"), bare.replace("-", "_"))
        if field not in defaults:
            known = ", ".join("warmup" if known == "warmup_batches" else known.replace("_", "-") for known in defaults)
            raise RepositoryError(f"--reset {name} names no option that could be reset", f"there are {known}")
        found[field] = defaults[field]
    return found
