"""TFLite: both stages in float32 and in full-integer INT8, with what they are written inside the file."""

from __future__ import annotations

from vdeploy.export.tflite.convert import classifier_to_tflite, extractor_to_tflite
from vdeploy.export.tflite.metadata import Metadata, read_metadata
from vdeploy.export.tflite.precision import found_precision

__all__ = [
    "Metadata",
    "classifier_to_tflite",
    "extractor_to_tflite",
    "found_precision",
    "read_metadata",
]
