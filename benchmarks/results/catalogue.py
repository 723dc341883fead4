"""Every study, in the order of RESULTS.md."""

from __future__ import annotations

from benchmarks.results.studies.accuracy import ABLATION, ACCURACY, IMBALANCE
from benchmarks.results.studies.comparing import COMPARING
from benchmarks.results.studies.exports import EXPORT_MEMORY, EXPORTS
from benchmarks.results.studies.inference import INFERENCE, INFERENCE_ON_GPU, SERVED
from benchmarks.results.studies.servers import GATEWAY, INSTANCES, ROLLOUT
from benchmarks.results.studies.training import FEATURES, TRAINING, TRAINING_ON_GPU
from benchmarks.results.studies.videos import EVENTS, STREAMS, TIMELINE

__all__ = ["STUDIES"]

STUDIES = (
    FEATURES,
    TRAINING,
    TRAINING_ON_GPU,
    ACCURACY,
    IMBALANCE,
    ABLATION,
    EXPORTS,
    EXPORT_MEMORY,
    INFERENCE,
    INFERENCE_ON_GPU,
    SERVED,
    TIMELINE,
    EVENTS,
    STREAMS,
    ROLLOUT,
    INSTANCES,
    GATEWAY,
    COMPARING,
)
