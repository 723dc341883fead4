"""Whether an ONNX file takes weights from other files, found without any library and without reading its weights.

A tensor of an ONNX file may name another file that holds its values (fields 13 and 14 of `TensorProto`). Tensors stand
in graphs, in attributes of nodes, and in graphs inside those.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

from vdeploy.artifacts.file_headers.onnx import read_varint
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
_VARINT, _BYTES = 0, 2
_FIXED_LENGTHS = {1: 8, 5: 4}
_DEEPEST = 64


def has_external_data(path: Path) -> bool:
    """Whether a tensor of an ONNX file has its values in another file.

    Raises:
        BundleError: The file cannot be read, or is no ONNX model.
    """
    try:
        with path.open("rb") as file:
            return _refers(file, os.fstat(file.fileno()).st_size, "model", 0)
    except OSError as error:
        raise BundleError(f"{path} cannot be read ({error.strerror or error})", "export the run again") from error
    except ValueError as error:
        raise BundleError(f"{path} is no ONNX model ({error})", "export the run again") from error


def _refers(file: BinaryIO, end: int, message: str, depth: int) -> bool:
    """Whether a tensor between here and `end` does; else the file is at `end` afterwards."""
    if depth > _DEEPEST:
        raise ValueError("graphs within graphs beyond measure")
    inner = _MESSAGES[message]
    while file.tell() < end:
        number, kind = divmod(read_varint(file), 8)
        if kind == _VARINT:
            if read_varint(file) == _EXTERNAL and message == _TENSOR and number == _DATA_LOCATION:
                return True
            continue
        if kind != _BYTES and kind not in _FIXED_LENGTHS:
            raise ValueError(f"a field of kind {kind}")
        length = read_varint(file) if kind == _BYTES else _FIXED_LENGTHS[kind]
        after = file.tell() + length
        if after > end:
            raise ValueError("it is cut off")
        if message == _TENSOR and number == _EXTERNAL_DATA:
            return True
        if kind == _BYTES and number in inner and _refers(file, after, inner[number], depth + 1):
            return True
        file.seek(after)
    return False
