"""The ONNX formats: the export's intermediate files are what is shipped."""

from __future__ import annotations

from vdeploy.core.files import link_or_copy
from vdeploy.export.intermediates import Flavour
from vdeploy.export.onnx.inspection import inspect_onnx
from vdeploy.export.verification.precision import refuse_forgotten_layers
from vdeploy.export.writer_api import Job, Written

__all__ = ["FLAVOURS", "write"]

FLAVOURS: dict[str, Flavour] = {"fp32": "fp32", "fp16": "fp16", "int8": "cpu"}
"""Source by precision."""


def write(job: Job) -> Written:
    """Writes an ONNX file; see `vdeploy.export.writer_api.Writer`."""
    flavour = FLAVOURS[job.kind.precision]
    link_or_copy(job.intermediates.onnx(job.stage, flavour), job.path)
    details = job.intermediates.details(job.stage, flavour)
    found = inspect_onnx(job.path)
    if job.kind.precision == "int8":
        meant = {*details["kept_in_float"], *details["float_only"]}
        refuse_forgotten_layers(job.kind.name, job.stage, found.layers, meant)
    return Written(
        precision=found.precision,
        packages=("onnx", "onnxruntime", "tf2onnx"),
        details={**details, "opset": found.opset, "ir_version": found.ir_version},
        calibration=job.data.calibration if job.kind.needs_data else None,
    )
