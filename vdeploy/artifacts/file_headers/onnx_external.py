"""Whether an ONNX file takes weights from other files, found without any library and without reading its weights.

A tensor of an ONNX file may name another file that holds its values (fields 13 and 14 of `TensorProto`). Tensors stand
in graphs, in attributes of nodes, and in graphs inside those.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from vdeploy.artifacts.file_headers.protobuf import Span, fields
from vdeploy.core.errors import BundleError

__all__ = ["has_external_data"]

_TENSOR = "tensor"
_MESSAGES: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: _TENSOR, 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: _TENSOR, 6: "graph", 10: _TENSOR, 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: _TENSOR, 2: _TENSOR},
    _TENSOR: {},
}
"""The fields of each message that lead to tensors, and the messages in them."""

_EXTERNAL_DATA, _DATA_LOCATION, _EXTERNAL = 13, 14, 1
_DEEPEST = 64


def has_external_data(path: Path) -> bool:
    """Whether a tensor of an ONNX file has its values in another file.

    Raises:
        BundleError: The file cannot be read, or is no ONNX model.
    """
    try:
        with path.open("rb") as file:
            return _refers(file, None, "model", 0)
    except OSError as error:
        raise BundleError(f"{path} cannot be read ({error.strerror or error})", "export the run again") from error
    except ValueError as error:
        raise BundleError(f"{path} is no ONNX model ({error})", "export the run again") from error


def _refers(file: BinaryIO, span: Span | None, message: str, depth: int) -> bool:
    if depth > _DEEPEST:
        raise ValueError("graphs within graphs beyond measure")
    inner = _MESSAGES[message]
    for field in fields(file, span):
        is_external = field.number == _DATA_LOCATION and field.value == _EXTERNAL
        if message == _TENSOR and (is_external or (field.number == _EXTERNAL_DATA and field.value is None)):
            return True
        leads_on = field.content is not None and field.number in inner
        if leads_on and _refers(file, field.content, inner[field.number], depth + 1):
            return True
    return False
