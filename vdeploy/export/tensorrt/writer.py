"""The TensorRT formats, of both libraries.

TensorRT has no LSTM in eight bits, so the classifier of an INT8 format is an FP16 engine.
"""

from __future__ import annotations

from pathlib import Path

from vdeploy.artifacts.file_headers.tensorrt import LibraryName
from vdeploy.core.errors import ExportError
from vdeploy.export.availability import has_gpu
from vdeploy.export.intermediates import Flavour
from vdeploy.export.tensorrt import EngineOptions, EngineReport, Precision, build_engine, found_precision
from vdeploy.export.writer_api import Job, Written
from vdeploy.inference.runtimes.cuda import Cuda

__all__ = ["write"]

_BATCHES = (1, 16, 64)


def write(job: Job) -> Written:
    """Writes an engine, its papers and its log; see `vdeploy.export.writer_api.Writer`."""
    batches = job.options.batch or _BATCHES
    if batches[0] != 1:
        raise ExportError(f"--batch begins with {batches[0]}", "begin with 1: an engine is proven clip by clip")
    eight_bits = job.kind.precision == "int8" and job.stage == "extractor"
    flavour: Flavour = "tensorrt" if eight_bits else "fp16"
    precision: Precision = "int8" if eight_bits else "fp16"
    library: LibraryName = "tensorrt_rtx" if "target_sm" in job.kind.options else "tensorrt"
    source = job.intermediates.onnx(job.stage, flavour)
    details = job.intermediates.details(job.stage, flavour)
    options = EngineOptions(
        precision=precision,
        library=library,
        batches=batches,
        frames=job.reference.spec.frames,
        target_sm=job.options.target_sm or (),
        float_layers=tuple(details["kept_in_float"]) if eight_bits else _float32_layers(details["kept_in_float32"]),
    )
    report = build_engine(source, job.path, options)
    return Written(
        precision=found_precision(job.path),
        packages=("onnx", "onnxruntime", "tf2onnx"),
        details={**details, "engine": report.model_dump(mode="json", exclude={"layers", "sha256", "bytes"})},
        stand_in=_stand_in(source, report),
        calibration=job.data.calibration if eight_bits else None,
    )


def _float32_layers(wide: list[str]) -> tuple[str, ...]:
    """Layers around a tensor that float16 cannot hold may be any, so where there is one, all may stay in float32."""
    return ("*",) if wide else ()


def _stand_in(source: Path, report: EngineReport) -> Path | None:
    """The engine's ONNX file, unless the engine runs on a GPU of this machine."""
    return None if has_gpu() and Cuda().capability in report.capabilities else source
