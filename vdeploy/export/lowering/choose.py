"""Which lowering a model takes: the special case that it registers, or the generic one."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vdeploy.export.lowering.generic_onnx import extractor_by_tf2onnx, head_by_tf2onnx
from vdeploy.export.lowering.graphs import ExtractorGraph, HeadGraph, KerasExtractorGraph, KerasHeadGraph
from vdeploy.models.extractor import FeatureExtractor
from vdeploy.models.registry import HEADS, head_type
from vdeploy.models.stage_names import stage_model

if TYPE_CHECKING:
    import keras
    import onnx

__all__ = ["extractor_graph", "extractor_onnx", "head_graph", "head_onnx"]


def extractor_onnx(extractor: FeatureExtractor, spool: Path | None = None) -> onnx.ModelProto:
    """Lower a backbone to ONNX.

    Args:
        extractor: The backbone with its weights.
        spool: A file for large weights, which the model then refers to; the generic lowering keeps them in the model.
    """
    special = _special(extractor.backbone.lowerings, "onnx")
    model: onnx.ModelProto = special(extractor, spool) if special else extractor_by_tf2onnx(extractor)
    return model


def head_onnx(model: keras.Model) -> onnx.ModelProto:
    """Lower a head to ONNX."""
    special = _special(_lowerings(model), "onnx")
    lowered: onnx.ModelProto = special(model) if special else head_by_tf2onnx(model)
    return lowered


def extractor_graph(extractor: FeatureExtractor) -> ExtractorGraph:
    """Lower a backbone to TensorFlow."""
    special = _special(extractor.backbone.lowerings, "tensorflow")
    graph: ExtractorGraph = (special or KerasExtractorGraph)(extractor)
    return graph


def head_graph(model: keras.Model) -> HeadGraph:
    """Lower a head to TensorFlow."""
    special = _special(_lowerings(model), "tensorflow")
    graph: HeadGraph = (special or KerasHeadGraph)(model)
    return graph


def _lowerings(model: keras.Model) -> Mapping[str, str]:
    """What the head of a model registers; the model is named after its head."""
    names = (name for name in HEADS if stage_model("classifier", name) == model.name)
    return next((head_type(name).lowerings for name in names), {})


def _special(lowerings: Mapping[str, str], kind: str) -> Any:
    if kind not in lowerings:
        return None
    module, _, attribute = lowerings[kind].partition(":")
    return getattr(importlib.import_module(module), attribute)
