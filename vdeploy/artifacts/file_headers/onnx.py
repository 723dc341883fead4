"""What an ONNX file says about its versions, read without any library and without its weights.

A file is a protobuf message: a field's number and kind, then its value. Only the version of the format (field 1) and
the operator sets (field 8) are looked at; the graph is skipped.
"""

from __future__ import annotations

import dataclasses
import io
import os
from pathlib import Path
from typing import BinaryIO

from vdeploy.core.errors import BundleError

__all__ = ["OnnxHead", "read_onnx_head", "read_varint"]

_IR_VERSION, _OPSET_IMPORT = 1, 8
_DOMAIN, _VERSION = 1, 2
_VARINT, _BYTES = 0, 2
_FIXED_LENGTHS = {1: 8, 5: 4}
_CONTINUES = 0x80
_REMEDY = "export the run again"


@dataclasses.dataclass(frozen=True)
class OnnxHead:
    """The versions of an ONNX file.

    Attributes:
        ir_version: Of the file format.
        opset: Of the default set of operators.
    """

    ir_version: int
    opset: int


def read_onnx_head(path: Path) -> OnnxHead:
    """Reads the versions of an ONNX file.

    Raises:
        BundleError: It cannot be read, or is no ONNX model.
    """
    ir_version = opset = 0
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            while file.tell() < size:
                number, value = _field(file, size, {_OPSET_IMPORT})
                if number == _IR_VERSION and isinstance(value, int):
                    ir_version = value
                elif number == _OPSET_IMPORT and isinstance(value, bytes):
                    opset = max(opset, _default_opset(value))
    except OSError as error:
        raise BundleError(f"{path} cannot be read ({error.strerror or error})", _REMEDY) from error
    except ValueError as error:
        raise BundleError(f"{path} is no ONNX model ({error})", _REMEDY) from error
    if not ir_version or not opset:
        raise BundleError(f"{path} is no ONNX model (it names no version)", _REMEDY)
    return OnnxHead(ir_version, opset)


def _default_opset(message: bytes) -> int:
    file, domain, version = io.BytesIO(message), b"", 0
    while file.tell() < len(message):
        number, value = _field(file, len(message), {_DOMAIN})
        if number == _DOMAIN and isinstance(value, bytes):
            domain = value
        elif number == _VERSION and isinstance(value, int):
            version = value
    return version if domain in {b"", b"ai.onnx"} else 0


def _field(file: BinaryIO, size: int, wanted: set[int]) -> tuple[int, int | bytes | None]:
    """The next field's number and value; a value in bytes is only read where it is wanted."""
    number, kind = divmod(read_varint(file), 8)
    if kind == _VARINT:
        return number, read_varint(file)
    if kind != _BYTES and kind not in _FIXED_LENGTHS:
        raise ValueError(f"a field of kind {kind}")
    length = read_varint(file) if kind == _BYTES else _FIXED_LENGTHS[kind]
    if file.tell() + length > size:
        raise ValueError("it is cut off")
    if kind == _BYTES and number in wanted:
        return number, file.read(length)
    file.seek(length, os.SEEK_CUR)
    return number, None


def read_varint(file: BinaryIO) -> int:
    """Reads a number of protobuf, of seven bits a byte.

    Raises:
        ValueError: There is none.
    """
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            raise ValueError("it is cut off")
        value |= byte[0] % _CONTINUES << shift
        if byte[0] < _CONTINUES:
            return value
    raise ValueError("a number of too many digits")
