"""The generic lowering to ONNX: tf2onnx converts what the Keras model computes."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from vdeploy.core.lazy_imports import load_tensorflow, require
from vdeploy.export.lowering.graphs import HeadGraph, KerasExtractorGraph
from vdeploy.export.onnx.canonical_names import rename_canonically
from vdeploy.export.onnx.versions import OPSET
from vdeploy.models.extractor import FeatureExtractor
from vdeploy.models.shift_stream import ShiftStream

if TYPE_CHECKING:
    import keras
    import onnx

__all__ = ["extractor_by_tf2onnx", "head_by_tf2onnx", "stream_by_tf2onnx"]


def extractor_by_tf2onnx(extractor: FeatureExtractor) -> onnx.ModelProto:
    """Convert a backbone: ``frames uint8[batch, time, H, W, 3]`` to ``features float32[batch, time, F]``.

    Of a backbone that looks at whole clips, only the batch is free.
    """
    tf, graph = load_tensorflow(), KerasExtractorGraph(extractor)
    frames = tf.TensorSpec((None, graph.frames, graph.size, graph.size, 3), tf.uint8, name="frames")
    function = tf.function(lambda frames: {"features": graph.features(frames)}, input_signature=[frames])
    times = ("time", "time") if graph.frames is None else (graph.frames, graph.steps)
    axes = {"frames": ("batch", times[0]), "features": ("batch", times[1], graph.dim)}
    return _convert(function, extractor.backbone.model_name, axes)


def stream_by_tf2onnx(extractor: FeatureExtractor) -> onnx.ModelProto:
    """Convert the streaming form of a causal backbone; see `vdeploy.models.shift_stream.ShiftStream`.

    ``frames uint8[1, time, H, W, 3]`` and ``buffer float32[1, D]`` to ``features float32[1, time, F]`` and
    ``next_buffer float32[1, D]``.
    """
    tf, stream = load_tensorflow(), ShiftStream(extractor)
    frames = tf.TensorSpec((1, None, stream.size, stream.size, 3), tf.uint8, name="frames")
    buffer = tf.TensorSpec((1, stream.length), tf.float32, name="buffer")

    def advance(frames: Any, buffer: Any) -> dict[str, Any]:
        return dict(zip(("features", "next_buffer"), stream(frames, buffer), strict=True))

    axes = {"frames": (1, "time"), "features": (1, "time", stream.dim), "next_buffer": (1, stream.length)}
    return _convert(tf.function(advance, input_signature=[frames, buffer]), extractor.backbone.model_name, axes)


def head_by_tf2onnx(model: keras.Model, graph: HeadGraph | None = None) -> onnx.ModelProto:
    """Convert a head: ``features float32[batch, t, F]`` to ``probabilities float32[batch, 2]``.

    Args:
        model: Its Keras model.
        graph: Its graph in TensorFlow, to be converted instead of the Keras model.
    """
    tf = load_tensorflow()
    _, steps, dim = model.input_shape
    spec = tf.TensorSpec((None, steps, dim), tf.float32, name="features")

    def compute(features: Any) -> dict[str, Any]:
        return {"probabilities": model(features, training=False) if graph is None else graph(features)}

    axes = {"features": ("batch",), "probabilities": ("batch", 2)}
    return _convert(tf.function(compute, input_signature=[spec]), model.name, axes)


def _convert(function: Any, name: str, axes: Mapping[str, tuple[str | int | None, ...]]) -> onnx.ModelProto:
    """Convert a function, and name or fix the first axes of its inputs and outputs."""
    tf2onnx = require("tf2onnx", extra="export", purpose="export to ONNX")
    with _quiet_tf2onnx():
        converted, _ = tf2onnx.convert.from_function(function, input_signature=function.input_signature, opset=OPSET)
    graph = converted.graph
    graph.name = name
    for value in (*graph.input, *graph.output):
        for dimension, axis in zip(value.type.tensor_type.shape.dim, axes.get(value.name, ()), strict=False):
            if isinstance(axis, str):
                dimension.dim_param = axis
            elif axis is not None:
                dimension.dim_value = axis
    rename_canonically(converted)
    model: onnx.ModelProto = converted
    return model


@contextlib.contextmanager
def _quiet_tf2onnx() -> Iterator[None]:
    logger = logging.getLogger("tf2onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
