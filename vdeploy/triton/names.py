"""Names that the repository, the server and the client share; imports nothing, for clients with few packages."""

from __future__ import annotations

__all__ = [
    "CLASSIFIER_MODEL",
    "CONFIG",
    "DEFAULT_GRPC_PORT",
    "DEFAULT_HTTP_PORT",
    "DEFAULT_METRICS_PORT",
    "DEPLOYMENTS",
    "ENSEMBLE_MODEL",
    "EXTRACTOR_MODEL",
    "FEATURES",
    "FRAMES",
    "HELD",
    "MAX_BATCH_SIZE",
    "MISSING",
    "PROBABILITIES",
    "STAGES",
    "STREAM_MODEL",
    "STREAM_MODELS",
    "THREADS_VARIABLE",
    "WINDOW",
    "WINDOW_MODEL",
]

EXTRACTOR_MODEL = "vgg19_features"
CLASSIFIER_MODEL = "lstm_classifier"
"""The stages of the default recipe, and of every repository of version 0.1."""

ENSEMBLE_MODEL = "violence_detector"
STAGES = (EXTRACTOR_MODEL, CLASSIFIER_MODEL)

WINDOW_MODEL = "violence_window"
STREAM_MODEL = "violence_stream"
STREAM_MODELS = (WINDOW_MODEL, STREAM_MODEL)
"""What a repository has besides where the server keeps the windows of streams: the keeper, and the ensemble with it."""

CONFIG = "config.pbtxt"

DEPLOYMENTS = f"{ENSEMBLE_MODEL}/deployments"
"""What a repository remembers of its deployments; Triton reads only folders with a number for a name."""

FRAMES = "frames"
FEATURES = "features"
PROBABILITIES = "probabilities"
WINDOW = "window"
HELD = "held"
MISSING = "missing"

MAX_BATCH_SIZE = 8
"""Clips in one request at most; an ensemble wants the same number in all of its models."""

DEFAULT_HTTP_PORT = 8000
DEFAULT_GRPC_PORT = 8001
DEFAULT_METRICS_PORT = 8002

THREADS_VARIABLE = "VDEPLOY_THREADS"
"""Environment variable with the number of cores for a stage whose configuration says 0 threads."""
