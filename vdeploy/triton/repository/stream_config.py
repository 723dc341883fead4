"""The `ModelConfig`s of the two models with which a server keeps the windows of streams.

    violence_window     the last features of each stream; always run by the Python backend, on the CPU, once
    violence_stream     the ensemble: extractor, violence_window, classifier

The two ordinary stages are those of `violence_detector`, run as they are run there. Requests of both ensembles share
their batches. Of a causal extractor, `violence_window` takes the frames and computes their features itself, by the
streaming form, as they depend on a buffer that it keeps for each stream.
"""

from __future__ import annotations

from typing import Any

from tritonclient.grpc import model_config_pb2

from vdeploy.core.errors import RepositoryError
from vdeploy.triton.names import (
    FEATURES,
    FRAMES,
    HELD,
    MISSING,
    PROBABILITIES,
    STREAM_MODEL,
    WINDOW,
    WINDOW_MODEL,
)
from vdeploy.triton.repository.backends import CODE_FILE, ServedStage
from vdeploy.triton.repository.options import ServingOptions, StreamOptions
from vdeploy.triton.repository.stage_config import Tensor, add_step, add_tensors, model_config

__all__ = ["refuse_for_streams", "stream_configs"]


def refuse_for_streams(extractor: ServedStage) -> None:
    """Looks whether an extractor takes single frames, or has a streaming form that does.

    Raises:
        RepositoryError: It does not.
    """
    if extractor.has_stream:
        return
    if extractor.past_frames:
        raise RepositoryError(
            f"streams of {extractor.architecture} need its streaming form, which the bundle lacks",
            "add it by vdeploy export RUN --format onnx-fp32, or leave --streams out: watch computes streams then",
        )
    if extractor.granularity == "clip":
        raise RepositoryError(
            f"streams send single frames, and {extractor.architecture} looks at the frames of a clip together",
            "leave --streams out: watch sends whole windows then",
        )
    if extractor.backend == "tensorrt":
        raise RepositoryError(
            f"streams send single frames, and the extractor in {extractor.format} takes whole clips",
            "serve it in an onnx-* format, with --backend onnxruntime --gpus 0 --accelerate on a GPU",
        )


def stream_configs(
    extractor: ServedStage,
    classifier: ServedStage,
    clip: tuple[int, ...],
    dim: int,
    probabilities: Tensor,
    batch: int,
    options: ServingOptions,
) -> tuple[Any, Any]:
    """Configures both models.

    Args:
        extractor: What is to extract the features.
        classifier: What is to classify a window of them.
        clip: Shape of a clip, (T, S, S, 3).
        dim: Features of a frame.
        probabilities: The output of the classifier.
        batch: The largest batch of all models.
        options: How they are to be run.

    Returns:
        The `ModelConfig`s of `violence_window` and of `violence_stream`.

    Raises:
        RepositoryError: The extractor does not take single frames.
    """
    refuse_for_streams(extractor)
    uint8, int32, fp32 = model_config_pb2.TYPE_UINT8, model_config_pb2.TYPE_INT32, model_config_pb2.TYPE_FP32
    missing, held = Tensor(MISSING, int32, (-1,)), Tensor(HELD, int32, (1,))
    taken = Tensor(FRAMES, uint8, (-1, *clip[1:])) if extractor.has_stream else Tensor(FEATURES, fp32, (-1, dim))
    window = model_config(WINDOW_MODEL, batch, options)
    window.backend = "python"
    window.default_model_filename = CODE_FILE
    add_tensors(window, (taken, missing), (Tensor(WINDOW, fp32, (clip[0], dim)), held))
    kind = model_config_pb2.ModelInstanceGroup.KIND_CPU
    window.instance_group.add(name=f"{WINDOW_MODEL}_instances", count=1, kind=kind)
    window.dynamic_batching.max_queue_delay_microseconds = 0
    streams = options.streams or StreamOptions()
    window.parameters["max_streams"].string_value = str(streams.limit)
    window.parameters["idle_seconds"].string_value = f"{streams.idle_seconds:g}"
    if extractor.has_stream:
        window.parameters["intra_op_num_threads"].string_value = str(options.threads_of_instance)
    ensemble = model_config(STREAM_MODEL, batch, options)
    add_tensors(ensemble, (Tensor(FRAMES, uint8, (-1, *clip[1:])), missing), (probabilities, held))
    if not extractor.has_stream:
        add_step(ensemble, extractor.model, {FRAMES: FRAMES}, {FEATURES: FEATURES})
    add_step(ensemble, WINDOW_MODEL, {taken.name: taken.name, MISSING: MISSING}, {WINDOW: WINDOW, HELD: HELD})
    add_step(ensemble, classifier.model, {FEATURES: WINDOW}, {PROBABILITIES: PROBABILITIES})
    return window, ensemble
