"""Looking into a running network: the values of its inner tensors on real inputs."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vdeploy.artifacts.onnx_graphs.tensors import infer_values
from vdeploy.core.lazy_imports import require
from vdeploy.export.onnx.file import dump_onnx
from vdeploy.inference.runtimes.onnxruntime import OnnxRuntime

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import onnx

__all__ = ["float_activations", "observe"]


def float_activations(model: onnx.ModelProto) -> list[str]:
    """Names of all tensors that the nodes of a float32 model compute in floating point, in order."""
    onnx = require("onnx", extra="export", purpose="export to ONNX")
    values = infer_values(model)
    names = [name for node in model.graph.node for name in node.output if name]
    return [name for name in names if values[name].kind == onnx.TensorProto.FLOAT]


def observe(
    model: onnx.ModelProto, names: Sequence[str], feeds: Iterable[Mapping[str, npt.NDArray[Any]]]
) -> Iterator[dict[str, npt.NDArray[np.float32]]]:
    """Runs a model and hands out inner tensors, one feed after the other: memory holds those of one feed.

    Args:
        model: The model.
        names: Tensors to hand out.
        feeds: Inputs by name.

    Yields:
        Arrays by name, for each feed.
    """
    onnx = require("onnx", extra="export", purpose="export to ONNX")
    present = {value.name for value in model.graph.output}
    with tempfile.TemporaryDirectory(prefix="vdeploy-observe-") as folder:
        file = Path(folder) / "model.onnx"
        extra = onnx.ModelProto()
        extra.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in present)
        with file.open("wb") as handle:
            dump_onnx(model, handle)
            # Protobuf reads two messages in a row as one, so the outputs are added without another copy of the weights.
            handle.write(extra.SerializeToString())
        runtime = OnnxRuntime(file, lean=True)
        for feed in feeds:
            found = runtime.infer(feed)
            yield {name: found[name] for name in names}
