"""The GRU head with its steps unrolled: every format then takes it as matrix products, a loop only some."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vdeploy.export.lowering.generic_onnx import head_by_tf2onnx
from vdeploy.export.lowering.graphs import KerasHeadGraph

if TYPE_CHECKING:
    import keras
    import onnx

__all__ = ["GRUGraph", "gru_onnx"]


class GRUGraph(KerasHeadGraph):
    """The Keras model, whose GRU is unrolled from here on."""

    def __init__(self, model: keras.Model) -> None:
        super().__init__(_unrolled(model))


def gru_onnx(model: keras.Model) -> onnx.ModelProto:
    """Lower the head to ONNX; its GRU is unrolled from here on."""
    return head_by_tf2onnx(_unrolled(model))


def _unrolled(model: keras.Model) -> keras.Model:
    layer: Any = model.get_layer("gru")
    layer.unroll = True
    return model
