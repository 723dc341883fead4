"""What an ONNX file really holds: the precision that its layers compute in, and its versions.

Nothing here asks what was wanted. A layer is INT8 only if its weights are stored in 8 bits and its input is quantized
to 8 bits; it is FP16 only if the tensor that it gives is of that type.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from vdeploy.artifacts.onnx_graphs.tensors import LAYERS, Value, infer_values, weight_of
from vdeploy.core.errors import BundleError
from vdeploy.core.lazy_imports import require
from vdeploy.export.onnx.external_weights import open_onnx
from vdeploy.export.onnx.node_flops import flops_of_node
from vdeploy.export.verification.precision import LayerPrecision, precision_of

if TYPE_CHECKING:
    import onnx

__all__ = ["OnnxInspection", "inspect_model", "inspect_onnx", "read_onnx"]


@dataclasses.dataclass(frozen=True)
class OnnxInspection:
    """What was found in a file.

    Attributes:
        layers: The layers with weights, in order.
        opset: Version of the default operator set.
        ir_version: Version of the file format.
    """

    layers: tuple[LayerPrecision, ...]
    opset: int
    ir_version: int

    @property
    def precision(self) -> str:
        """The precision of the whole; see `vdeploy.export.verification.precision.precision_of`."""
        return precision_of(self.layers)


def inspect_onnx(path: Path) -> OnnxInspection:
    """Reads an ONNX file and says what is in it.

    Args:
        path: The file.

    Raises:
        MissingExtraError: The package onnx is not installed.
        BundleError: The file is no ONNX model, or holds no layer with weights.
    """
    return inspect_model(read_onnx(path), path)


def read_onnx(path: Path) -> onnx.ModelProto:
    """Reads an ONNX file; its large weights stay there, see `vdeploy.export.onnx.external_weights`.

    Raises:
        MissingExtraError: The package onnx is not installed.
        BundleError: The file is no ONNX model.
    """
    require("onnx", extra="export", purpose="inspecting ONNX files")
    with _one_line_errors(path):
        return open_onnx(path)


def inspect_model(model: onnx.ModelProto, path: Path) -> OnnxInspection:
    """Says what is in a model.

    Args:
        model: The model, as `read_onnx` reads it.
        path: Its file, for errors.

    Raises:
        BundleError: Its tensors contradict each other, or it holds no layer with weights.
    """
    with _one_line_errors(path):
        values = infer_values(model)
    layers = tuple(_layers(model, values))
    if not layers:
        raise BundleError(f"{path} holds no layer with weights", "export the run again")
    return OnnxInspection(
        layers=layers,
        opset=next(opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx")),
        ir_version=model.ir_version,
    )


@contextlib.contextmanager
def _one_line_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # protobuf's and onnx's exceptions share no base class
        reason = str(error).strip().partition("\n")[0]
        raise BundleError(f"{path} is no ONNX model ({reason})", "export the run again") from error


def _layers(model: onnx.ModelProto, values: Mapping[str, Value]) -> list[LayerPrecision]:
    makers = {name: node for node in model.graph.node for name in node.output}
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    layers = []
    for node in model.graph.node:
        if node.op_type not in LAYERS or (weight := weight_of(node, makers, weights)) is None:
            continue
        precision = _precision(node, weight, makers, values)
        layers.append(LayerPrecision(node.name, node.op_type, precision, _flops(node, values)))
    return layers


def _precision(
    node: onnx.NodeProto,
    weight: onnx.TensorProto,
    makers: Mapping[str, onnx.NodeProto],
    values: Mapping[str, Value],
) -> str:
    onnx = require("onnx", extra="export", purpose="inspecting ONNX files")
    types = onnx.TensorProto
    bytes_types = (types.INT8, types.UINT8)
    source = makers.get(node.input[0])
    if source is not None and source.op_type == "DequantizeLinear" and weight.data_type in bytes_types:
        quantized = makers.get(source.input[0])
        is_quantized = quantized is not None and quantized.op_type == "QuantizeLinear"
        if is_quantized and values[source.input[0]].kind in bytes_types:
            return "int8"
    kind = values[node.output[0]].kind
    return {types.FLOAT: "fp32", types.FLOAT16: "fp16"}.get(kind) or str(types.DataType.Name(kind)).lower()


def _flops(node: onnx.NodeProto, values: Mapping[str, Value]) -> int:
    """Operations where every open axis, such as the batch, is one long."""
    names = (*filter(None, node.input[:3]), node.output[0])
    *inputs, output = ([axis or 1 for axis in values[name].shape] for name in names)
    return flops_of_node(node, inputs, output)
