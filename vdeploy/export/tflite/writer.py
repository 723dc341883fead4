"""The TFLite formats, in float32 and in full-integer INT8."""

from __future__ import annotations

from vdeploy.artifacts.bundle.manifest import CLASSES
from vdeploy.export.tflite import (
    Metadata,
    classifier_to_tflite,
    extractor_to_tflite,
    found_precision,
)
from vdeploy.export.writer_api import Job, Written

__all__ = ["write"]


def write(job: Job) -> Written:
    """Writes a TFLite file; see `vdeploy.export.writer_api.Writer`."""
    metadata = Metadata(labels=CLASSES, clip=job.reference.spec)
    quantized = job.kind.precision == "int8"
    calibration = job.data.calibration_inputs(job.stage) if quantized else None
    if job.stage == "extractor":
        extractor_to_tflite(job.reference.extractor, job.path, metadata, calibration)
    else:
        classifier_to_tflite(job.reference.classifier, job.path, metadata, calibration)
    return Written(
        precision=found_precision(job.path),
        packages=("ai-edge-litert",),
        calibration=job.data.calibration if quantized else None,
    )
