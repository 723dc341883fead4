"""What an ONNX file says about its versions, read without any library and without its weights.

Only the version of the format (field 1) and the operator sets (field 8) are looked at; the graph is skipped.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import BinaryIO

from vdeploy.artifacts.file_headers.protobuf import Span, fields, read_span
from vdeploy.core.errors import BundleError

__all__ = ["OnnxHead", "read_onnx_head"]

_IR_VERSION, _OPSET_IMPORT = 1, 8
_DOMAIN, _VERSION = 1, 2
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
            for field in fields(file):
                if field.number == _IR_VERSION and field.value is not None:
                    ir_version = field.value
                elif field.number == _OPSET_IMPORT and field.content is not None:
                    opset = max(opset, _default_opset(file, field.content))
    except OSError as error:
        raise BundleError(f"{path} cannot be read ({error.strerror or error})", _REMEDY) from error
    except ValueError as error:
        raise BundleError(f"{path} is no ONNX model ({error})", _REMEDY) from error
    if not ir_version or not opset:
        raise BundleError(f"{path} is no ONNX model (it names no version)", _REMEDY)
    return OnnxHead(ir_version, opset)


def _default_opset(file: BinaryIO, message: Span) -> int:
    domain, version = b"", 0
    for field in fields(file, message):
        if field.number == _DOMAIN and field.content is not None:
            domain = read_span(file, field.content)
        elif field.number == _VERSION and field.value is not None:
            version = field.value
    return version if domain in {b"", b"ai.onnx"} else 0
