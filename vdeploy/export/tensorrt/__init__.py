r"""TensorRT engines, from ONNX files in the precision that the engine is to compute in.

Two libraries with the same API build them. `tensorrt_rtx` builds on any x86-64 machine, with or without a GPU, for the
RTX cards that `EngineOptions.target_sm` names; `tensorrt` builds on a GPU, for that GPU, and its engines are the ones
that Triton serves. Either way an engine runs on the version of the library that built it and on no other, and on the
compute capabilities that it was built for. The engine that matches a server is therefore built where the server runs:
start the serving image with the run folder mounted, on the machine with the GPU, and export inside of it::

    docker run --rm --gpus all -v "$PWD/runs:/runs" -v "$PWD/bundles:/bundles" SERVING_IMAGE \
        vdeploy export /runs/NAME --format tensorrt-fp16 --batch 1,16,64 --out /bundles/NAME

Networks are strongly typed: no flag lowers their precision, so none can be forgotten. What an engine computes in stands
in the ONNX file, is read from the parsed network before the build, and from the engine after it.
"""

from __future__ import annotations

from vdeploy.export.tensorrt.builder import build_engine, log_file
from vdeploy.export.tensorrt.layers import ComputeLayer
from vdeploy.export.tensorrt.options import EngineOptions, HardwareCompatibility, Precision, parse_batches
from vdeploy.export.tensorrt.report import EngineReport, found_precision, read_report, report_file
from vdeploy.export.tensorrt.targets import parse_targets

__all__ = [
    "ComputeLayer",
    "EngineOptions",
    "EngineReport",
    "HardwareCompatibility",
    "Precision",
    "build_engine",
    "found_precision",
    "log_file",
    "parse_batches",
    "parse_targets",
    "read_report",
    "report_file",
]
