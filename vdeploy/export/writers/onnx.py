"""The ONNX formats: the export's sources are what is shipped."""

from __future__ import annotations

from training.files import link_or_copy
from vdeploy.export.job import Job, Written

__all__ = ["write"]


def write(job: Job) -> Written:
    """Writes an ONNX file; see `vdeploy.export.job.Writer`."""
    link_or_copy(job.sources.onnx(job.stage, "fp32"), job.path)
    return Written(precision="fp32", packages=("onnx", "onnxruntime", "tf2onnx"))
