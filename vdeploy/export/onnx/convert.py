"""ONNX: both stages with dynamic batch and named tensors, in versions that older servers read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vdeploy.artifacts.onnx_graphs.tensors import without_weights
from vdeploy.core.errors import ExportError
from vdeploy.core.lazy_imports import require
from vdeploy.export.lowering.choose import extractor_onnx, head_onnx
from vdeploy.export.lowering.generic_onnx import stream_by_tf2onnx
from vdeploy.export.onnx.versions import IR_VERSION, OPSET
from vdeploy.models.extractor import FeatureExtractor

if TYPE_CHECKING:
    import keras
    import onnx

__all__ = ["classifier_to_onnx", "extractor_to_onnx", "stream_to_onnx"]


def extractor_to_onnx(extractor: FeatureExtractor, spool: Path | None = None) -> onnx.ModelProto:
    """Convert a backbone: ``frames uint8[batch, time, H, W, 3]`` to ``features float32[batch, time, F]``.

    Args:
        extractor: The backbone with its weights.
        spool: See `vdeploy.export.lowering.choose.extractor_onnx`.
    """
    return _finish(extractor_onnx(extractor, spool))


def classifier_to_onnx(model: keras.Model) -> onnx.ModelProto:
    """Convert a head: ``features float32[batch, t, F]`` to ``probabilities float32[batch, 2]``."""
    return _finish(head_onnx(model))


def stream_to_onnx(extractor: FeatureExtractor) -> onnx.ModelProto:
    """Convert the streaming form of a causal backbone; see `vdeploy.export.lowering.generic_onnx.stream_by_tf2onnx`."""
    return _finish(stream_by_tf2onnx(extractor))


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
