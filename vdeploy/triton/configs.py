"""The `config.pbtxt` of each model of a repository, written through Triton's own `ModelConfig`."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

from google.protobuf import text_format  # type: ignore[import-untyped]
from tritonclient.grpc import model_config_pb2

from vdeploy.bundle import Manifest
from vdeploy.triton.names import (
    CLASSIFIER_MODEL,
    ENSEMBLE_MODEL,
    EXTRACTOR_MODEL,
    FEATURES,
    FRAMES,
    MAX_BATCH_SIZE,
    PROBABILITIES,
)

__all__ = ["LABELS", "Backend", "render_configs"]

Backend = Literal["python", "onnxruntime"]

LABELS = "labels.txt"
"""Beside each configuration with probabilities: the names of the classes, a line each."""

HEADER = "# Written by vdeploy from a bundle's manifest; a change here is lost at the next deployment.\n"

EXTRACTOR_DELAY_MICROSECONDS = 5_000
"""How long the extractor waits for a fuller batch; nothing beside a second of VGG19."""
CLASSIFIER_DELAY_MICROSECONDS = 500

# There is no queue policy on purpose: with any limit on the queue's size or time, Triton 2.51 misses that a model has
# become idle and lets what waits sit for up to half a second per batch. Bound the load in front of Triton instead.


def render_configs(
    manifest: Manifest, backend: Backend, *, instances: int = 1, threads: int | None = None
) -> dict[str, str]:
    """Renders the `config.pbtxt` of each model; the same on every machine.

    Args:
        manifest: What is served.
        backend: What runs the two stages.
        instances: Copies of each stage.
        threads: Cores of one extractor instance; `None` leaves it to the server's environment.

    Returns:
        Text by model name.
    """
    spec, dim = manifest.clip_spec, manifest.extractor.dim
    clip, features = [spec.frames, spec.size, spec.size, 3], [spec.frames, dim]
    extractor = _stage(
        EXTRACTOR_MODEL,
        backend,
        instances=instances,
        threads=threads or 0,
        clips_per_run=1,
        delay_microseconds=EXTRACTOR_DELAY_MICROSECONDS,
    )
    _add_input(extractor, FRAMES, model_config_pb2.TYPE_UINT8, [-1, *clip[1:]])
    _add_output(extractor, FEATURES, [-1, dim])

    classifier = _stage(
        CLASSIFIER_MODEL,
        backend,
        instances=instances,
        threads=1,
        clips_per_run=0,
        delay_microseconds=CLASSIFIER_DELAY_MICROSECONDS,
    )
    _add_input(classifier, FEATURES, model_config_pb2.TYPE_FP32, features)
    _add_output(classifier, PROBABILITIES, [2], LABELS)

    ensemble = _model(ENSEMBLE_MODEL)
    ensemble.platform = "ensemble"
    _add_input(ensemble, FRAMES, model_config_pb2.TYPE_UINT8, clip)
    _add_output(ensemble, PROBABILITIES, [2], LABELS)
    for model, taken, given in (
        (EXTRACTOR_MODEL, FRAMES, FEATURES),
        (CLASSIFIER_MODEL, FEATURES, PROBABILITIES),
    ):
        step = ensemble.ensemble_scheduling.step.add(model_name=model, model_version=-1)
        step.input_map[taken] = taken
        step.output_map[given] = given
    for name, value in _client_parameters(manifest).items():
        ensemble.parameters[name].string_value = json.dumps(value, sort_keys=True)
    return {
        config.name: HEADER + text_format.MessageToString(config, as_utf8=True)
        for config in (extractor, classifier, ensemble)
    }


def _client_parameters(manifest: Manifest) -> dict[str, Any]:
    canonical = json.dumps(manifest.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    return {
        "bundle_sha256": hashlib.sha256(canonical.encode()).hexdigest(),
        "classes": manifest.classes,
        "clip": manifest.clip,
        "extractor_dim": manifest.extractor.dim,
        "run": manifest.run,
        "temperature": manifest.temperature,
        "threshold": manifest.threshold,
    }


def _model(name: str) -> Any:
    config = model_config_pb2.ModelConfig(name=name, max_batch_size=MAX_BATCH_SIZE)
    config.version_policy.latest.num_versions = 1
    return config


def _stage(
    name: str, backend: Backend, *, instances: int, threads: int, clips_per_run: int, delay_microseconds: int
) -> Any:
    config = _model(name)
    config.backend = backend
    config.instance_group.add(kind=model_config_pb2.ModelInstanceGroup.KIND_CPU, count=instances)
    config.dynamic_batching.max_queue_delay_microseconds = delay_microseconds
    parameters = (
        {"intra_op_num_threads": threads, "max_clips_per_run": clips_per_run}
        if backend == "python"
        else {"intra_op_thread_count": threads, "inter_op_thread_count": 1}
    )
    for key, value in parameters.items():
        config.parameters[key].string_value = str(value)
    return config


def _add_input(config: Any, name: str, data_type: int, dims: list[int]) -> None:
    config.input.add(name=name, data_type=data_type, dims=dims)


def _add_output(config: Any, name: str, dims: list[int], labels: str = "") -> None:
    config.output.add(name=name, data_type=model_config_pb2.TYPE_FP32, dims=dims, label_filename=labels)
