"""Large weights of an ONNX model that stay in a file: the model holds where they are, not what they are.

Protobuf reads a file whole, twice. A reference is ONNX's own note of external data, with the path of a file, an ONNX
file or not, in which the bytes lie; `vdeploy.export.onnx.file` puts them into the file that it writes.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from vdeploy.artifacts.file_headers.protobuf import Span, fields, read_span
from vdeploy.artifacts.onnx_graphs.tensors import is_large
from vdeploy.core.lazy_imports import require

if TYPE_CHECKING:
    import numpy.typing as npt
    import onnx

__all__ = ["copy_weights", "is_reference", "open_onnx", "refer", "size_of_weights", "weight_values"]

_CHUNK = 1 << 20


def open_onnx(path: Path) -> onnx.ModelProto:
    """Reads an ONNX file, all but its large weights, which the model refers to; the file must stay.

    Args:
        path: The file.

    Raises:
        OSError: It cannot be read.
        ValueError: It is empty, or is cut off.
        google.protobuf.message.DecodeError: It is no ONNX model.
    """
    onnx = require("onnx", extra="export", purpose="reading ONNX files")
    numbers = _field_number(onnx.ModelProto, "graph"), _field_number(onnx.GraphProto, "initializer")
    model = onnx.ModelProto()
    with path.open("rb") as file:
        if not file.seek(0, os.SEEK_END):
            raise ValueError("it is empty")
        rest, graphs = _split(file, None, numbers[0])
        model.ParseFromString(rest)
        parts = [_split(file, graph, numbers[1]) for graph in graphs]
        if parts:
            model.graph.ParseFromString(b"".join(part for part, _ in parts))
        for _, tensors in parts:
            for span in tensors:
                _add_tensor(model.graph.initializer.add(), file, span, path)
    return model


def refer(tensor: onnx.TensorProto, path: Path, span: Span) -> None:
    """Has a tensor refer to bytes of a file: its weights in the order of `raw_data`."""
    onnx = require("onnx", extra="export", purpose="reading ONNX files")
    start, end = span
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", path.absolute()), ("offset", start), ("length", end - start)):
        tensor.external_data.add(key=key, value=str(value))


def is_reference(tensor: onnx.TensorProto) -> bool:
    """Whether the weights of a tensor lie in a file."""
    return bool(tensor.external_data)


def size_of_weights(tensor: onnx.TensorProto) -> int:
    """Bytes of a tensor's weights, where they are kept as bytes or referred to."""
    if is_reference(tensor):
        start, end = _reference(tensor)[1]
        return end - start
    return len(tensor.raw_data)


def copy_weights(tensor: onnx.TensorProto, target: BinaryIO) -> None:
    """Writes the bytes of a tensor's weights into an open file.

    Raises:
        OSError: They cannot be read or written.
    """
    if not is_reference(tensor):
        target.write(tensor.raw_data)
        return
    path, (start, end) = _reference(tensor)
    with path.open("rb") as source:
        source.seek(start)
        for position in range(start, end, _CHUNK):
            chunk = source.read(min(_CHUNK, end - position))
            if not chunk:
                raise OSError(errno.EIO, "the weights that a model refers to have gone", str(path))
            target.write(chunk)


def weight_values(tensor: onnx.TensorProto) -> npt.NDArray[Any]:
    """The weights of a tensor as an array, read from where they lie."""
    onnx = require("onnx", extra="export", purpose="reading ONNX files")
    values: npt.NDArray[Any]
    if is_reference(tensor):
        path, (start, end) = _reference(tensor)
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).newbyteorder("<")
        values = np.fromfile(path, dtype, (end - start) // dtype.itemsize, offset=start).reshape(tensor.dims)
    else:
        values = onnx.numpy_helper.to_array(tensor)
    return values


def _reference(tensor: onnx.TensorProto) -> tuple[Path, Span]:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    start = int(entries["offset"])
    return Path(entries["location"]), (start, start + int(entries["length"]))


def _add_tensor(tensor: onnx.TensorProto, file: BinaryIO, span: Span, path: Path) -> None:
    rest, raw = _split(file, span, _field_number(type(tensor), "raw_data"))
    tensor.ParseFromString(rest)
    if not raw:
        return
    if is_large(tensor):
        refer(tensor, path, raw[-1])
    else:
        tensor.raw_data = read_span(file, raw[-1])


def _split(file: BinaryIO, span: Span | None, wanted: int) -> tuple[bytes, list[Span]]:
    """The fields of a message but for those of one number, and where the contents of these are."""
    rest, found = bytearray(), []
    for field in fields(file, span):
        if field.number == wanted and field.content is not None:
            found.append(field.content)
        else:
            rest += read_span(file, field.whole)
    return bytes(rest), found


def _field_number(message: Any, name: str) -> int:
    number: int = message.DESCRIPTOR.fields_by_name[name].number
    return number
