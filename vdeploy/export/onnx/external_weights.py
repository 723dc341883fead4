"""Large weights of an ONNX model that stay in a file: the model holds where they are, not what they are.

Protobuf reads a file whole, twice. A reference is ONNX's own note of external data, with the path of a file, an ONNX
file or not, in which the bytes lie; `vdeploy.export.onnx.file` puts them into the file that it writes.
"""

from __future__ import annotations

import errno
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from vdeploy.core.lazy_imports import require
from vdeploy.export.onnx.graph import is_large

if TYPE_CHECKING:
    import numpy.typing as npt
    import onnx

__all__ = ["copy_weights", "is_reference", "open_onnx", "refer", "size_of_weights", "weight_values"]

_CHUNK = 1 << 20
_VARINT = 0
_LONGEST_VARINT = 10
_LENGTH_DELIMITED = 2
_FIXED = {1: 8, 5: 4}
"""Bytes of the kinds of fields that have always as many."""

Span = tuple[int, int]
"""Where something begins in a file and where it ends."""


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
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        rest, graphs = _split(data, (0, len(data)), numbers[0])
        model.ParseFromString(rest)
        parts = [_split(data, graph, numbers[1]) for graph in graphs]
        if parts:
            model.graph.ParseFromString(b"".join(part for part, _ in parts))
        for _, tensors in parts:
            for span in tensors:
                _add_tensor(model.graph.initializer.add(), data, span, path)
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


def _add_tensor(tensor: onnx.TensorProto, data: mmap.mmap, span: Span, path: Path) -> None:
    rest, raw = _split(data, span, _field_number(type(tensor), "raw_data"))
    tensor.ParseFromString(rest)
    if not raw:
        return
    if is_large(tensor):
        refer(tensor, path, raw[-1])
    else:
        tensor.raw_data = data[slice(*raw[-1])]


def _split(data: mmap.mmap, span: Span, wanted: int) -> tuple[bytes, list[Span]]:
    """The fields of a message but for those of one number, and where the contents of these are."""
    rest, found = bytearray(), []
    for number, field, content in _fields(data, span):
        if number == wanted:
            found.append(content)
        else:
            rest += data[slice(*field)]
    return bytes(rest), found


def _fields(data: mmap.mmap, span: Span) -> Iterator[tuple[int, Span, Span]]:
    """Number, place, and place of the content of each field; see protobuf.dev/programming-guides/encoding."""
    position, end = span
    while position < end:
        start = position
        tag, position = _varint(data, position)
        begin = position
        kind = tag & 7
        if kind == _VARINT:
            _, position = _varint(data, position)
        elif kind == _LENGTH_DELIMITED:
            length, begin = _varint(data, position)
            position = begin + length
        elif kind in _FIXED:
            position += _FIXED[kind]
        else:
            raise ValueError(f"it has a field of the unknown kind {kind}")
        if position > end:
            raise ValueError("it is cut off")
        yield tag >> 3, (start, position), (begin, position)


def _varint(data: mmap.mmap, position: int) -> tuple[int, int]:
    value = 0
    for index, byte in enumerate(data[position : position + _LONGEST_VARINT]):
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value, position + index + 1
    raise ValueError("it is cut off, or holds a number of more than 64 bits")


def _field_number(message: Any, name: str) -> int:
    number: int = message.DESCRIPTOR.fields_by_name[name].number
    return number
