"""What a TensorRT engine file says about itself before any library opens it.

The version of the library stands at bytes 24 to 27, for both libraries; NVIDIA's `trtexec --getPlanVersionOnly` reads
it there. What else is read, of files of `tensorrt_rtx` only, is not documented: the length of the file, the mask of
compute capabilities, and a table of two sections, the engine and its weights. The tests hold it against the installed
library; where a file does not look so, these values are unknown rather than wrong.
"""

from __future__ import annotations

import dataclasses
import struct
from pathlib import Path
from typing import Literal

from vdeploy.core.errors import BundleError

__all__ = ["HEAD_BYTES", "LibraryName", "Plan", "capability_text", "parse_plan", "read_plan"]

LibraryName = Literal["tensorrt", "tensorrt_rtx"]
"""The two libraries, by the names of their Python modules."""

_TAGS: dict[bytes, LibraryName] = {b"ftrt": "tensorrt", b"vtrt": "tensorrt_rtx"}
_HEADER = struct.Struct("<4sIIIQ4B")
_CAPABILITIES = struct.Struct("<4sI")
_SECTION = struct.Struct("<4sIQQ")
_SECTIONS_AT, _SECTIONS = 64, 2
HEAD_BYTES = _SECTIONS_AT + _SECTIONS * _SECTION.size
"""How much of a file is looked at."""

_MASK = (75, 80, 86, 89, 120, 121)
"""The compute capability that each bit of the mask stands for, from the lowest."""

_REMEDY = "build the engine again: vdeploy export"


@dataclasses.dataclass(frozen=True)
class Plan:
    """An engine file, by its first bytes.

    Attributes:
        library: The library that wrote it.
        version: The version of that library, for example ``(1, 7, 1, 116)``.
        capabilities: Compute capabilities that it was built for, as 86 for 8.6; empty where the file does not say.
        bytes: Length of the file.
        weight_bytes: Length of its weights, or ``None`` where the file does not say.
    """

    library: LibraryName
    version: tuple[int, int, int, int]
    capabilities: tuple[int, ...]
    bytes: int
    weight_bytes: int | None

    @property
    def version_text(self) -> str:
        """The version, with dots."""
        return ".".join(map(str, self.version))


def capability_text(*capabilities: int) -> str:
    """``"8.6"`` for 86, and ``"8.6, 8.9"`` for 86 and 89."""
    return ", ".join(f"{value // 10}.{value % 10}" for value in capabilities)


def read_plan(path: Path) -> Plan:
    """Reads the first bytes of an engine file.

    Raises:
        BundleError: There is no such file, it is no engine, or a part of it is missing.
    """
    try:
        with path.open("rb") as file:
            return parse_plan(file.read(HEAD_BYTES), path.stat().st_size, str(path))
    except OSError as error:
        raise BundleError(f"the engine {path} cannot be read ({error.strerror or error})", _REMEDY) from error


def parse_plan(head: bytes, size: int, name: str = "the engine") -> Plan:
    """Reads the first bytes of an engine.

    Args:
        head: Its first `HEAD_BYTES` bytes.
        size: Length of all of it in bytes.
        name: What to call it in errors.

    Raises:
        BundleError: It is no engine, or a part of it is missing.
    """
    library = _TAGS.get(head[:4])
    if library is None or len(head) < _HEADER.size:
        raise BundleError(f"{name} is no TensorRT engine", _REMEDY)
    _, layout, _, _, length, *version = _HEADER.unpack_from(head)
    if layout != 0:
        raise BundleError(f"{name} is a TensorRT engine of an unknown layout ({layout})", _REMEDY)
    major, minor, patch, build = version
    plan = Plan(library, (major, minor, patch, build), (), size, None)
    if library == "tensorrt":
        return plan
    if length != size or size < HEAD_BYTES:
        raise BundleError(f"{name} is damaged: it has {size} bytes, not {length}", _REMEDY)
    return dataclasses.replace(plan, capabilities=_capabilities(head), weight_bytes=_weight_bytes(head, size))


def _capabilities(head: bytes) -> tuple[int, ...]:
    tag, mask = _CAPABILITIES.unpack_from(head, _HEADER.size)
    return tuple(value for bit, value in enumerate(_MASK) if mask >> bit & 1) if tag == b"vtrt" else ()


def _weight_bytes(head: bytes, size: int) -> int | None:
    for index in range(_SECTIONS):
        tag, _, start, length = _SECTION.unpack_from(head, _SECTIONS_AT + index * _SECTION.size)
        if tag[::-1] == b"WGHT" and start + length <= size:
            return int(length)
    return None
