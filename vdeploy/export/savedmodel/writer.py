"""The SavedModel format: each stage, and both as one pipeline."""

from __future__ import annotations

from vdeploy.export.savedmodel.convert import (
    classifier_to_savedmodel,
    extractor_to_savedmodel,
    found_precision,
    pipeline_to_savedmodel,
)
from vdeploy.export.writer_api import Job, Written

__all__ = ["write"]


def write(job: Job) -> Written:
    """Writes a SavedModel's folder; see `vdeploy.export.writer_api.Writer`."""
    extractor, classifier = job.reference.extractor, job.reference.classifier
    signatures = ["serving_default"]
    if job.stage == "extractor":
        extractor_to_savedmodel(extractor, job.path)
    elif job.stage == "classifier":
        classifier_to_savedmodel(classifier, job.path)
    else:
        pipeline_to_savedmodel(extractor, classifier, job.path)
        signatures.append("jpeg")
    return Written(precision=found_precision(job.path), packages=(), details={"signatures": signatures})
