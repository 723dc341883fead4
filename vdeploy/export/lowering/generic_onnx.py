"""The generic lowering to ONNX: tf2onnx converts what the Keras model computes."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from vdeploy.core.lazy_imports import load_tensorflow, require
from vdeploy.export.lowering.graphs import HeadGraph, KerasExtractorGraph
from vdeploy.export.onnx.canonical_names import rename_canonically
from vdeploy.export.onnx.versions import OPSET
from vdeploy.models.extractor import FeatureExtractor

if TYPE_CHECKING:
    import keras
    import onnx

__all__ = ["extractor_by_tf2onnx", "head_by_tf2onnx"]


def extractor_by_tf2onnx(extractor: FeatureExtractor) -> onnx.ModelProto:
    """Convert a backbone: ``frames uint8[batch, time, H, W, 3]`` to ``features float32[batch, time, F]``.

    Of a backbone that looks at whole clips, only the batch is free.
    """
    tf, graph = load_tensorflow(), KerasExtractorGraph(extractor)
    frames = tf.TensorSpec((None, graph.frames, graph.size, graph.size, 3), tf.uint8, name="frames")
    function = tf.function(lambda frames: {"features": graph.features(frames)}, input_signature=[frames])
    times = ("time", "time") if graph.frames is None else (graph.frames, graph.steps)
    return _convert(function, extractor.backbone.model_name, ("batch", times[0]), ("batch", times[1], graph.dim))


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

    return _convert(tf.function(compute, input_signature=[spec]), model.name, ("batch",), ("batch", 2))


def _convert(
    function: Any, name: str, inputs: tuple[str | int | None, ...], outputs: tuple[str | int | None, ...]
) -> onnx.ModelProto:
    """Convert a function of one input and one output, and name the axes of both."""
    tf2onnx = require("tf2onnx", extra="export", purpose="export to ONNX")
    with _quiet_tf2onnx():
        converted, _ = tf2onnx.convert.from_function(function, input_signature=function.input_signature, opset=OPSET)
    graph = converted.graph
    graph.name = name
    for value, axes in ((graph.input[0], inputs), (graph.output[0], outputs)):
        for dimension, axis in zip(value.type.tensor_type.shape.dim, axes, strict=False):
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
