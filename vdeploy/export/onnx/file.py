"""Writing ONNX files piece by piece, so that saving a large model takes no second copy of it.

A serialised protobuf message is its fields one after the other, each with its number and length. Protobuf's own
serialiser builds the whole in memory, several times over while its buffer grows; here the weights go from the model to
the file one tensor at a time, or from the file that they are referred to in, and everything else, which is small, is
left to protobuf. The bytes are the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from vdeploy.core.files import atomic_write
from vdeploy.core.lazy_imports import require
from vdeploy.export.onnx.external_weights import copy_weights, is_reference, size_of_weights

if TYPE_CHECKING:
    import onnx

__all__ = ["dump_onnx", "write_onnx"]

_LENGTH_DELIMITED = 2


def write_onnx(model: onnx.ModelProto, path: Path) -> None:
    """Writes a model; beyond it, memory holds one of its weight tensors at a time, none of those that it refers to.

    The file has all weights inside. It is that of ``SerializeToString(deterministic=True)`` of a model which has them
    inside, and replaces an older one in a single step.

    Args:
        model: The model; its weights inside, or references as `vdeploy.export.onnx.external_weights` makes them.
        path: The file. Its folder is created.

    Raises:
        OSError: The file cannot be written; an older one stays.
    """
    with atomic_write(path) as file:
        dump_onnx(model, file)


def dump_onnx(model: onnx.ModelProto, file: BinaryIO) -> None:
    """Writes a model into an open file, one weight tensor at a time.

    Args:
        model: The model, as for `write_onnx`.
        file: Where to; it is neither flushed nor closed.
    """
    for piece in _model(model):
        if isinstance(piece, bytes):
            file.write(piece)
        else:
            copy_weights(piece, file)


_Piece = Any
"""Bytes, or a tensor that stands for the bytes of its weights."""


def _model(model: onnx.ModelProto) -> Iterator[_Piece]:
    before, after = _around(model, "graph")
    yield before
    yield from _field(model, "graph", list(_graph(model.graph)))
    yield after


def _graph(graph: onnx.GraphProto) -> Iterator[_Piece]:
    before, after = _around(graph, "initializer")
    yield before
    for tensor in graph.initializer:
        yield from _field(graph, "initializer", _tensor(tensor))
    yield after


def _tensor(tensor: onnx.TensorProto) -> list[_Piece]:
    before, after = _around(_without_reference(tensor), "raw_data")
    has_bytes = tensor.HasField("raw_data") or is_reference(tensor)
    return [before, *(_field(tensor, "raw_data", [tensor]) if has_bytes else ()), after]


def _without_reference(tensor: onnx.TensorProto) -> onnx.TensorProto:
    if not is_reference(tensor):
        return tensor
    plain = type(tensor)()
    plain.CopyFrom(tensor)
    plain.ClearField("data_location")
    plain.ClearField("external_data")
    return plain


def _around(message: Any, name: str) -> tuple[bytes, bytes]:
    """The serialised fields of a message with lower numbers than a field's, and those with higher ones."""
    masks = require("google.protobuf.field_mask_pb2", extra="export", purpose="export to ONNX")
    fields = message.DESCRIPTOR.fields
    number = message.DESCRIPTOR.fields_by_name[name].number
    parts = []
    for names in (
        [field.name for field in fields if field.number < number],
        [field.name for field in fields if field.number > number],
    ):
        part = type(message)()
        masks.FieldMask(paths=names).MergeMessage(message, part)
        parts.append(part.SerializeToString(deterministic=True))
    return parts[0], parts[1]


def _field(message: Any, name: str, pieces: list[_Piece]) -> Iterator[_Piece]:
    """A field that holds the pieces: its tag, their length, themselves."""
    number = message.DESCRIPTOR.fields_by_name[name].number
    yield _varint(number << 3 | _LENGTH_DELIMITED) + _varint(sum(_size(piece) for piece in pieces))
    yield from pieces


def _size(piece: _Piece) -> int:
    return len(piece) if isinstance(piece, bytes) else size_of_weights(piece)


def _varint(value: int) -> bytes:
    """A number in groups of seven bits, the lowest first, each but the last marked by its highest bit."""
    groups = bytearray()
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)
