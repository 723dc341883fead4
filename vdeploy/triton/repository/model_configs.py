"""The `config.pbtxt` of each model of a repository, written through Triton's `ModelConfig` message."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from google.protobuf import text_format  # type: ignore[import-untyped]
from tritonclient.grpc import model_config_pb2

from vdeploy.artifacts.bundle import Manifest
from vdeploy.triton.names import (
    ENSEMBLE_MODEL,
    FEATURES,
    FRAMES,
    PROBABILITIES,
    WINDOW_MODEL,
)
from vdeploy.triton.repository.backends import ServedStage, common_batch
from vdeploy.triton.repository.kept_options import OPTIONS_PARAMETER, options_to_dict
from vdeploy.triton.repository.options import ServingOptions
from vdeploy.triton.repository.stage_config import Tensor, add_step, add_tensors, model_config, stage_config
from vdeploy.triton.repository.stream_config import stream_configs

__all__ = ["LABELS", "has_labels", "render_configs"]

LABELS = "labels.txt"
"""Beside each configuration with probabilities: the names of the classes, a line each."""

HEADER = "# Written by vdeploy from a bundle's manifest; a change here is lost at the next deployment.\n"


def render_configs(
    manifest: Manifest, extractor: ServedStage, classifier: ServedStage, options: ServingOptions | None = None
) -> dict[str, str]:
    """Renders the `config.pbtxt` of each model; the same on every machine, and with nothing left for Triton to guess.

    Args:
        manifest: What is served.
        extractor: Format and backend of the extractor.
        classifier: Format and backend of the classifier.
        options: How they are to be run; `None` for the defaults.

    Returns:
        Text by model name, an ensemble after what it is made of.

    Raises:
        RepositoryError: The options do not fit the stages.
    """
    chosen = options or ServingOptions()
    batch = common_batch((extractor, classifier), chosen.max_batch)
    spec, features = manifest.clip_spec, manifest.feature_shape
    clip, dim = (spec.frames, spec.size, spec.size, 3), features[1]
    fixed = extractor.backend == "tensorrt" or manifest.extractor.granularity == "clip"
    uint8, fp32 = model_config_pb2.TYPE_UINT8, model_config_pb2.TYPE_FP32
    probabilities = Tensor(PROBABILITIES, fp32, (2,), (2,), LABELS)
    stages = (
        stage_config(
            extractor,
            Tensor(FRAMES, uint8, (clip[0] if fixed else -1, *clip[1:]), clip),
            Tensor(FEATURES, fp32, (features[0] if fixed else -1, dim), features),
            batch,
            chosen,
        ),
        stage_config(classifier, Tensor(FEATURES, fp32, features, features), probabilities, batch, chosen),
    )
    ensemble = model_config(ENSEMBLE_MODEL, batch, chosen)
    add_tensors(ensemble, (Tensor(FRAMES, uint8, clip),), (probabilities,))
    add_step(ensemble, extractor.model, {FRAMES: FRAMES}, {FEATURES: FEATURES})
    add_step(ensemble, classifier.model, {FEATURES: FEATURES}, {PROBABILITIES: PROBABILITIES})
    configs, ensembles = [*stages, ensemble], [ensemble]
    if chosen.streams and chosen.streams.limit:
        window, streams = stream_configs(extractor, classifier, clip, dim, probabilities, batch, chosen)
        configs, ensembles = [*stages, window, ensemble, streams], [ensemble, streams]
    for config in ensembles:
        for name, value in _parameters(manifest, extractor, classifier, chosen).items():
            config.parameters[name].string_value = json.dumps(value, sort_keys=True)
    return {config.name: HEADER + text_format.MessageToString(config, as_utf8=True) for config in configs}


def has_labels(model: str) -> bool:
    """Return whether a model gives probabilities, and so has a file with the names of the classes."""
    return model != WINDOW_MODEL and not model.endswith("_features")


def _parameters(
    manifest: Manifest, extractor: ServedStage, classifier: ServedStage, options: ServingOptions
) -> dict[str, Any]:
    scores = manifest.score_histogram
    values = {
        "bias": manifest.bias,
        "bundle_sha256": manifest.digest,
        "classes": manifest.classes,
        "clip": manifest.clip,
        "clip_seconds": manifest.clip_seconds,
        "extractor_dim": manifest.extractor.dim,
        "granularity": None if manifest.extractor.granularity == "frame" else "clip",
        "past_frames": manifest.past_frames or None,
        "formats": {served.stage: served.format for served in (extractor, classifier)},
        "run": manifest.run,
        OPTIONS_PARAMETER: options_to_dict(options),
        "score_histogram": None if scores is None else dataclasses.asdict(scores),
        "temperature": manifest.temperature,
        "threshold": manifest.threshold,
    }
    return {name: value for name, value in values.items() if value is not None}
