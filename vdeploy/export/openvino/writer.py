"""The OpenVINO formats: the export's ONNX files, those for CPUs where it is INT8, as OpenVINO's own files."""

from __future__ import annotations

from vdeploy.export.onnx.writer import FLAVOURS
from vdeploy.export.openvino.convert import onnx_to_openvino
from vdeploy.export.openvino.inspection import inspect_openvino
from vdeploy.export.verification.precision import precision_of, refuse_forgotten_layers
from vdeploy.export.writer_api import Job, Written
from vdeploy.inference.runtimes.openvino import GRAPH

__all__ = ["write"]


def write(job: Job) -> Written:
    """Writes the folder of an IR; see `vdeploy.export.writer_api.Writer`."""
    flavour = FLAVOURS[job.kind.precision]
    onnx_to_openvino(job.intermediates.onnx(job.stage, flavour), job.path)
    details = job.intermediates.details(job.stage, flavour)
    layers = inspect_openvino(job.path / GRAPH)
    if job.kind.precision == "int8":
        # An LSTM has another name here than in the source, and stays in floating point in every runtime.
        others = [layer for layer in layers if not layer.operator.startswith("LSTM")]
        refuse_forgotten_layers(job.kind.name, job.stage, others, details["kept_in_float"])
    return Written(
        precision=precision_of(layers),
        packages=("onnx", "onnxruntime", "openvino", "tf2onnx"),
        details=details,
        calibration=job.data.calibration if job.kind.needs_data else None,
    )
