"""The wire format of protobuf: which fields a message has and where they lie, without reading what they hold.

The package onnx reads a whole file into memory, weights included, and a machine that serves a bundle may lack it. See
protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

__all__ = ["Field", "Span", "fields", "read_span"]

Span = tuple[int, int]
"""Where something begins in a file and where it ends."""

_VARINT, _BYTES = 0, 2
_FIXED_LENGTHS = {1: 8, 5: 4}
_CONTINUES = 0x80


class Field(NamedTuple):
    """One field of a message.

    Attributes:
        number: Its number.
        value: Its value where that is an integer of variable length, else ``None``.
        whole: Where it lies, with its tag.
        content: Where its content lies, of bytes, text or a message; else ``None``.
    """

    number: int
    value: int | None
    whole: Span
    content: Span | None


def fields(file: BinaryIO, span: Span | None = None) -> Iterator[Field]:
    """Yield the fields of a message; the file may be read elsewhere in between.

    Args:
        file: An open file that can seek.
        span: Where the message lies; the whole file if left out.

    Raises:
        ValueError: It is no message.
    """
    position, end = span or (0, file.seek(0, os.SEEK_END))
    while position < end:
        start = file.seek(position)
        number, kind = divmod(_read_varint(file), 8)
        value, length = None, 0
        if kind == _VARINT:
            value = _read_varint(file)
        elif kind == _BYTES:
            length = _read_varint(file)
        elif kind in _FIXED_LENGTHS:
            length = _FIXED_LENGTHS[kind]
        else:
            raise ValueError(f"a field of kind {kind}")
        begin = file.tell()
        position = begin + length
        if position > end:
            raise ValueError("it is cut off")
        yield Field(number, value, (start, position), (begin, position) if kind == _BYTES else None)


def read_span(file: BinaryIO, span: Span) -> bytes:
    """Read what lies somewhere in a file."""
    file.seek(span[0])
    return file.read(span[1] - span[0])


def _read_varint(file: BinaryIO) -> int:
    """Reads a number of seven bits a byte."""
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            raise ValueError("it is cut off")
        value |= byte[0] % _CONTINUES << shift
        if byte[0] < _CONTINUES:
            return value
    raise ValueError("a number of too many digits")
