"""The flatbuffer of a TFLite file: reading it, and adding a named buffer to it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from vdeploy.core.errors import BundleError
from vdeploy.core.lazy_imports import require

__all__ = ["load_schema", "open_model", "with_buffer"]

_IDENTIFIER = b"TFL3"
_ALIGNMENT = 16


def load_schema() -> ModuleType:
    """The classes that were generated from the schema of TFLite files.

    Raises:
        MissingExtraError: LiteRT, which ships them, is not installed.
    """
    return require("ai_edge_litert.schema_py_generated", extra="tflite", purpose="reading and writing TFLite files")


def open_model(path: Path) -> Any:
    """Opens a TFLite file as the schema's ``Model``.

    Raises:
        BundleError: The file cannot be read or is no TFLite file.
    """
    schema = load_schema()
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path} cannot be read ({error.strerror or error})", "export the run again") from error
    if content[4:8] != _IDENTIFIER:
        raise BundleError(f"{path} is no TFLite file", "export the run again")
    return schema.Model.GetRootAs(content, 0)


def with_buffer(content: bytes, name: str, data: bytes) -> bytes:
    """Adds a metadata buffer to a TFLite file.

    Args:
        content: The file's bytes.
        name: Name of the buffer; the file must not have it yet.
        data: What the buffer holds.

    Returns:
        The new file's bytes, with all buffers aligned as the schema asks for.
    """
    schema = load_schema()
    flatbuffers = require("flatbuffers", extra="tflite", purpose="writing TFLite files")
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    entry = schema.MetadataT(name=name, buffer=len(model.buffers))
    model.metadata = [*(model.metadata or []), entry]
    model.buffers.append(schema.BufferT(data=np.frombuffer(data, np.uint8)))
    model.buffers = [_Aligned(buffer) for buffer in model.buffers]
    builder = flatbuffers.Builder(len(content) + len(data) + (1 << 16))
    builder.Finish(model.Pack(builder), file_identifier=_IDENTIFIER)
    return bytes(builder.Output())


@dataclasses.dataclass(frozen=True)
class _Aligned:
    """A buffer that is written where the schema wants it; the generated classes ignore ``force_align``."""

    buffer: Any

    def Pack(self, builder: Any) -> int:  # noqa: N802  the generated classes' name
        if self.buffer.data is not None:
            builder.Prep(_ALIGNMENT, len(self.buffer.data))
        offset: int = self.buffer.Pack(builder)
        return offset
