"""ONNX: both stages with dynamic batch and named tensors, in versions that older servers read."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vdeploy.core.errors import ExportError
from vdeploy.core.lazy_imports import load_tensorflow, require
from vdeploy.export.lowering.vgg19_onnx import build_vgg19_graph
from vdeploy.export.onnx.canonical_names import rename_canonically
from vdeploy.export.onnx.graph import without_weights
from vdeploy.models.backbones.vgg19.model import FeatureExtractor

if TYPE_CHECKING:
    import keras
    import onnx

__all__ = ["IR_VERSION", "OPSET", "classifier_to_onnx", "extractor_to_onnx"]

OPSET = 17
"""The newest opset that ONNX Runtime 1.12 and later run, and with it every Triton release since 22.08."""

IR_VERSION = 8
"""The IR version that belongs to the opset; older ONNX Runtimes refuse newer files."""


def extractor_to_onnx(extractor: FeatureExtractor, spool: Path | None = None) -> onnx.ModelProto:
    """Writes VGG19: ``frames uint8[batch, time, H, W, 3]`` -> ``features float32[batch, time, F]``.

    Args:
        extractor: VGG19 with its weights.
        spool: See `vdeploy.export.lowering.vgg19_onnx.build_vgg19_graph`.
    """
    return _finish(build_vgg19_graph(extractor, spool))


def classifier_to_onnx(model: keras.Model) -> onnx.ModelProto:
    """Converts the classifier: ``features float32[batch, T, F]`` -> ``probabilities float32[batch, 2]``."""
    tf2onnx = require("tf2onnx", extra="export", purpose="export to ONNX")
    tf = load_tensorflow()
    _, frames, dim = model.input_shape

    @tf.function(input_signature=[tf.TensorSpec([None, frames, dim], tf.float32, name="features")])  # type: ignore[untyped-decorator]
    def lstm_classifier(features: Any) -> dict[str, Any]:
        return {"probabilities": model(features, training=False)}

    with _quiet_tf2onnx():
        converted, _ = tf2onnx.convert.from_function(
            lstm_classifier, input_signature=lstm_classifier.input_signature, opset=OPSET
        )
    graph = converted.graph
    graph.name = "lstm_classifier"
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    graph.output[0].type.tensor_type.shape.dim[1].dim_value = 2
    rename_canonically(converted)
    return _finish(converted)


def _finish(model: onnx.ModelProto) -> onnx.ModelProto:
    """Sets the versions, in place, and checks the model."""
    onnx = require("onnx", extra="export", purpose="export to ONNX")
    foreign = sorted({node.domain for node in model.graph.node} - {"", "ai.onnx"})
    if foreign:
        raise ExportError(
            f"the ONNX graph {model.graph.name} uses operators of {', '.join(foreign)}", "report this as a bug"
        )
    del model.opset_import[:]
    model.opset_import.append(onnx.helper.make_opsetid("", OPSET))
    model.ir_version = IR_VERSION
    model.producer_name = "vdeploy"
    model.producer_version = ""
    onnx.checker.check_model(without_weights(model), full_check=True)
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
