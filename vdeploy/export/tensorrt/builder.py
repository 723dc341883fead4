"""From an ONNX file to an engine on disk."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import time
from pathlib import Path
from typing import Any

from vdeploy.artifacts.file_headers.tensorrt import HEAD_BYTES, capability_text, parse_plan
from vdeploy.core.errors import ExportError
from vdeploy.core.files import atomic_write, remove_stale
from vdeploy.core.progress import track
from vdeploy.export.tensorrt.inspection import engine_types, refuse_other_types, refuse_other_weights
from vdeploy.export.tensorrt.layers import ComputeLayer, compute_layers, network_precision, refuse_other_precision
from vdeploy.export.tensorrt.monitor import Progress, interruption, progress_monitor
from vdeploy.export.tensorrt.network import Shapes, input_shapes, optimization_profile, parse_network
from vdeploy.export.tensorrt.options import EngineOptions
from vdeploy.export.tensorrt.report import EngineReport, report_file
from vdeploy.export.tensorrt.targets import choose_targets
from vdeploy.export.tensorrt.timing_cache import TimingCache, TimingCacheUse
from vdeploy.inference.runtimes.cuda import Cuda
from vdeploy.inference.runtimes.tensorrt_library import Library, MessageLog, load_library, message_logger

__all__ = ["build_engine", "log_file"]

_HARDWARE = {"ampere+": "AMPERE_PLUS", "same-capability": "SAME_COMPUTE_CAPABILITY"}


@dataclasses.dataclass(frozen=True)
class _Built:
    """An engine in memory."""

    blob: Any
    layers: tuple[ComputeLayer, ...]
    shapes: dict[str, Shapes]
    flags: dict[str, bool | int | str | None]
    types: dict[str, int] | None
    timing_cache: TimingCacheUse
    seconds: float


def log_file(engine: Path) -> Path:
    """The file beside an engine that holds what the builder said."""
    return engine.with_name(f"{engine.name}.log")


def build_engine(onnx: Path, engine: Path, options: EngineOptions) -> EngineReport:
    """Builds an engine, looks at what is in it, and puts it with its papers and the builder's log in its place.

    Args:
        onnx: The network, typed as the engine is to compute: float16, float32, or with Q/DQ nodes for int8.
        engine: The engine's file; replaced in one step, once it has been found to be what was asked for.
        options: How to build it.

    Returns:
        What it was built with and what was found in it; `found_precision` reads it back.

    Raises:
        MissingExtraError: The library is not installed.
        DeployError: The library cannot be loaded, or it needs a GPU and there is none.
        ExportError: The network cannot be parsed or built, has another precision than asked for, or cannot be written.
        KeyboardInterrupt: The user pressed Ctrl-C; nothing was written.
    """
    library = load_library(options.library)
    targets = _targets(library, options)
    logger, log = message_logger(library)
    built = _build(library, logger, log, onnx, targets, options)
    report = _report(library, targets, built)
    try:
        remove_stale(engine.parent)
        _write(
            (engine, built.blob),
            (report_file(engine), f"{report.model_dump_json(indent=2)}\n".encode()),
            (log_file(engine), "".join(f"{line}\n" for line in log.lines).encode()),
        )
    except OSError as error:
        raise ExportError(
            f"cannot write the engine {engine} ({error.strerror or error})",
            "free some space or choose another folder; an earlier engine is intact",
        ) from error
    return report


def _targets(library: Library, options: EngineOptions) -> tuple[int, ...]:
    if library.name == "tensorrt_rtx":
        return choose_targets(options.target_sm, library.capabilities)
    here = Cuda().capability
    if options.target_sm and set(options.target_sm) != {here}:
        raise ExportError(
            f"tensorrt builds for the GPU at hand, compute capability {capability_text(here)}, "
            f"not for {capability_text(*options.target_sm)}",
            "export on the machine with that GPU, or for RTX cards to tensorrt-rtx-fp16 or tensorrt-rtx-int8",
        )
    return (here,)


def _build(
    library: Library, logger: Any, log: MessageLog, onnx: Path, targets: tuple[int, ...], options: EngineOptions
) -> _Built:
    trt, started = library.module, time.monotonic()
    builder = _builder(trt, logger, log)
    network = parse_network(trt, builder, logger, onnx)
    layers = compute_layers(trt, network)
    refuse_other_precision(layers, options.precision, options.float_layers)
    shapes = input_shapes(network, options)
    config = _configure(library, builder, targets, options)
    config.add_optimization_profile(optimization_profile(builder, shapes))
    cache = TimingCache(library, config, options.timing_cache)
    with interruption() as stop, track("build engine", 100, "percent") as step:
        monitor = progress_monitor(trt, Progress(step), stop.is_set)
        config.progress_monitor = monitor
        blob = builder.build_serialized_network(network, config)
        config.progress_monitor = None
    if blob is None:
        raise ExportError(
            f"TensorRT could not build an engine from {onnx} ({log.first_error})",
            "choose other targets or smaller batches, or report this with the versions of vdeploy doctor",
        )
    seconds = time.monotonic() - started
    types = engine_types(library, blob)
    refuse_other_types(types, options.precision)
    return _Built(blob, layers, shapes, _flags(config, options), types, cache.keep(), seconds)


def _builder(trt: Any, logger: Any, log: MessageLog) -> Any:
    try:
        return trt.Builder(logger)
    except (RuntimeError, TypeError) as error:
        raise ExportError(
            f"TensorRT cannot build on this machine ({log.first_error})",
            "build on the machine with the GPU that is to run the engine",
        ) from error


def _configure(library: Library, builder: Any, targets: tuple[int, ...], options: EngineOptions) -> Any:
    trt, config = library.module, builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if options.workspace_bytes is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_bytes)
    if options.optimization_level is not None:
        config.builder_optimization_level = options.optimization_level
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if options.hardware_compatibility != "none":
        level = _HARDWARE[options.hardware_compatibility]
        config.hardware_compatibility_level = getattr(trt.HardwareCompatibilityLevel, level)
    if library.capabilities:
        config.num_compute_capabilities = len(targets)
        for index, target in enumerate(targets):
            config.set_compute_capability(getattr(trt.ComputeCapability, f"SM{target}"), index)
    return config


def _flags(config: Any, options: EngineOptions) -> dict[str, bool | int | str | None]:
    return {
        "strongly_typed": True,
        "workspace_bytes": options.workspace_bytes,
        "optimization_level": int(config.builder_optimization_level),
        "version_compatible": options.version_compatible,
        "hardware_compatibility": options.hardware_compatibility,
    }


def _write(*files: tuple[Path, Any]) -> None:
    """Writes files that belong together: nothing takes its place before all are on the disk."""
    with contextlib.ExitStack() as stack:
        for path, content in files:
            file = stack.enter_context(atomic_write(path))
            file.write(content)
            file.flush()


def _report(library: Library, targets: tuple[int, ...], built: _Built) -> EngineReport:
    head = bytes(memoryview(built.blob)[:HEAD_BYTES])
    plan = parse_plan(head, built.blob.nbytes)
    refuse_other_weights(plan, built.layers)
    return EngineReport(
        library=library.name,
        version=library.version,
        capabilities=plan.capabilities or targets,
        shapes=built.shapes,
        flags=built.flags,
        precision=network_precision(built.layers),
        layers=built.layers,
        weight_bytes=plan.weight_bytes,
        engine_types=built.types,
        bytes=plan.bytes,
        sha256=hashlib.sha256(built.blob).hexdigest(),
        build_seconds=round(built.seconds, 3),
        timing_cache=built.timing_cache,
    )
