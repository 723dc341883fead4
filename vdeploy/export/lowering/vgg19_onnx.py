"""VGG19 as an ONNX graph, written node by node from the Keras weights.

A general converter copies the weights at every pass of its optimizer; for the layer fc2, 574 MB of weights, that takes
more memory than a workstation has. Nineteen layers are written faster than they are converted: channels first, no
transposes between convolutions, the same bytes every time.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vdeploy.artifacts.onnx_graphs.tensors import is_large
from vdeploy.core.lazy_imports import require
from vdeploy.export.onnx.external_weights import refer
from vdeploy.models.backbones.vgg19.model import IMAGENET_MEAN_RGB
from vdeploy.models.extractor import FeatureExtractor

if TYPE_CHECKING:
    import numpy.typing as npt
    import onnx

__all__ = ["build_vgg19_graph"]


def build_vgg19_graph(extractor: FeatureExtractor, spool: Path | None = None) -> onnx.ModelProto:
    """Writes the graph ``frames uint8[batch, time, H, W, 3]`` -> ``features float32[batch, time, F]``.

    Args:
        extractor: VGG19 with its weights; its first convolution takes RGB.
        spool: A file to put the large weights into, which the model then refers to; left out, they are in the model.

    Returns:
        A model that holds the graph, named ``vgg19_features``, and no versions yet: a graph cannot be put into a model
        without copying its weights.
    """
    builder = _GraphBuilder(require("onnx", extra="export", purpose="export to ONNX"), spool)
    size = extractor.size
    # TensorRT takes bytes only where the first node casts them.
    x = builder.node("Cast", ["frames"], "pixels", to=builder.onnx.TensorProto.FLOAT)
    # The mean stays a subtraction: folded into the bias it would be wrong at the borders, where padding is zero. Taken
    # from whole rows of pixels it is vectorised; ONNX Runtime needs five times as long for three numbers at a time.
    x = builder.node("Reshape", [x, builder.constant("row_shape", np.array([-1, size, size * 3]))], "rows")
    mean = builder.constant("mean", np.tile(np.array(IMAGENET_MEAN_RGB, np.float32), size))
    x = builder.node("Sub", [x, mean], "centred_rows")
    x = builder.node("Reshape", [x, builder.constant("frame_shape", np.array([-1, size, size, 3]))], "centred_pixels")
    x = builder.node("Transpose", [x], "centred", perm=[0, 3, 1, 2])
    network: Any = extractor.network
    _, mean_layer, *layers = network.layers
    names = {id(mean_layer.output): x}
    for layer in layers:
        sources = layer.input if isinstance(layer.input, list) else [layer.input]
        names[id(layer.output)] = _layer(builder, layer, [names[id(source)] for source in sources])
    shape = builder.node("Shape", ["frames"], "shape", end=2)
    dim = builder.constant("dim", np.array([extractor.dim]))
    shape = builder.node("Concat", [shape, dim], "features_shape", axis=0)
    builder.node("Reshape", [names[id(network.output)], shape], "features")
    return builder.finish("vgg19_features", size, extractor.dim)


def _layer(builder: _GraphBuilder, layer: Any, inputs: list[str]) -> str:
    kind, name = type(layer).__name__, layer.name
    x = inputs[0]
    if kind == "Conv2D":
        kernel, bias = layer.get_weights()
        weights = [
            builder.constant(f"{name}/kernel", kernel.transpose(3, 2, 0, 1)),
            builder.constant(f"{name}/bias", bias),
        ]
        x = builder.node("Conv", [x, *weights], name, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        return builder.node("Relu", [x], f"{name}/relu")
    if kind == "MaxPooling2D":
        return builder.node("MaxPool", [x], name, kernel_shape=[2, 2], strides=[2, 2])
    if kind == "GlobalAveragePooling2D":
        kind, x, name = "Flatten", builder.node("GlobalAveragePool", [x], name), f"{name}/flat"
    if kind == "Flatten":
        return builder.node("Flatten", [x], name)
    if kind == "Dense":
        kernel, bias = layer.get_weights()
        weights = [
            builder.constant(f"{name}/kernel", _channels_first(layer, kernel), columns=layer.units),
            builder.constant(f"{name}/bias", bias),
        ]
        return builder.node("Relu", [builder.node("Gemm", [x, *weights], name)], f"{name}/relu")
    if kind == "Rescaling":
        return builder.node("Mul", [x, builder.constant(f"{name}/scale", np.array(layer.scale, np.float32))], name)
    if kind == "Concatenate":
        return builder.node("Concat", inputs, name, axis=1)
    raise AssertionError(f"VGG19 has no layer of kind {kind}")


def _channels_first(layer: Any, kernel: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """A dense kernel; that of fc1 in rows of (channel, height, width) instead of Keras' (height, width, channel)."""
    if layer.name != "fc1":
        return kernel
    side = 7
    grid: npt.NDArray[np.float32] = kernel.reshape(side, side, -1, layer.units).transpose(2, 0, 1, 3)
    return grid


def _append(spool: Path, rows: npt.NDArray[Any]) -> tuple[int, int]:
    """Writes an array to the end of a file, a row at a time, for one that is transposed is copied to be written."""
    with spool.open("ab") as file:
        start = file.tell()
        for row in rows:
            file.write(row.tobytes())
        return start, file.tell()


class _GraphBuilder:
    def __init__(self, onnx: Any, spool: Path | None) -> None:
        self.onnx = onnx
        self._spool = spool
        self._model = onnx.ModelProto()
        if spool is not None:
            spool.write_bytes(b"")

    def constant(self, name: str, value: npt.NDArray[Any], *, columns: int | None = None) -> str:
        """Adds a constant, as a matrix if columns are given."""
        tensor = self._model.graph.initializer.add()
        tensor.name = name
        tensor.dims.extend((value.size // columns, columns) if columns else value.shape)
        tensor.data_type = self.onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
        rows = value.astype(value.dtype.newbyteorder("<"), copy=False)
        if self._spool is not None and is_large(tensor):
            refer(tensor, self._spool, _append(self._spool, rows))
        else:
            tensor.raw_data = rows.tobytes()
        return name

    def node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self._model.graph.node.append(self.onnx.helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def finish(self, name: str, size: int, dim: int) -> onnx.ModelProto:
        helper, types, graph = self.onnx.helper, self.onnx.TensorProto, self._model.graph
        graph.name = name
        graph.input.append(helper.make_tensor_value_info("frames", types.UINT8, ["batch", "time", size, size, 3]))
        graph.output.append(helper.make_tensor_value_info("features", types.FLOAT, ["batch", "time", dim]))
        return self._model
