"""What the repository, the server and the client call things. Imports nothing, so that a bare client can read it."""

from __future__ import annotations

__all__ = [
    "CLASSIFIER_MODEL",
    "DEFAULT_GRPC_PORT",
    "DEFAULT_HTTP_PORT",
    "DEFAULT_METRICS_PORT",
    "DEPLOYMENTS",
    "ENSEMBLE_MODEL",
    "EXTRACTOR_MODEL",
    "FEATURES",
    "FRAMES",
    "MAX_BATCH_SIZE",
    "MODELS",
    "PROBABILITIES",
    "STAGES",
    "THREADS_VARIABLE",
]

EXTRACTOR_MODEL = "vgg19_features"
CLASSIFIER_MODEL = "lstm_classifier"
ENSEMBLE_MODEL = "violence_detector"
STAGES = (EXTRACTOR_MODEL, CLASSIFIER_MODEL)
MODELS = (*STAGES, ENSEMBLE_MODEL)
"""All models of a repository; the ensemble comes after what it is made of."""

DEPLOYMENTS = f"{ENSEMBLE_MODEL}/deployments"
"""What a repository remembers of its deployments; Triton reads only folders with a number for a name."""

FRAMES = "frames"
FEATURES = "features"
PROBABILITIES = "probabilities"

MAX_BATCH_SIZE = 8
"""Clips in one request at most; an ensemble wants the same number in all of its models."""

DEFAULT_HTTP_PORT = 8000
DEFAULT_GRPC_PORT = 8001
DEFAULT_METRICS_PORT = 8002

THREADS_VARIABLE = "VDEPLOY_THREADS"
"""Environment variable with the number of cores for a stage whose configuration says 0 threads."""
