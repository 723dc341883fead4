"""Uncompressed AVI files written byte by byte: every depth that BI_RGB knows, rows top-down and bottom-up."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt

__all__ = ["write_raw_avi"]

_PALETTE_DEPTHS = (1, 4, 8)


def write_raw_avi(path: Path, *, width: int, height: int, bits: int, bottom_up: bool, frames: int = 6) -> None:
    """Writes an AVI file of uncompressed pictures that follow from the seed 0.

    Args:
        path: The file.
        width: Pixels of a row.
        height: Rows.
        bits: Of a pixel: 1, 4 and 8 have a palette, 16 are 5 each, 24 and 32 are BGR.
        bottom_up: Whether the last row comes first, as in a positive height of the header.
        frames: How many.
    """
    random = np.random.default_rng(0)
    colours = 1 << bits if bits in _PALETTE_DEPTHS else 0
    palette = random.integers(0, 256, (colours, 4), dtype=np.uint8)
    palette[:, 3] = 0
    pictures = [_rows(random, width, height, bits, number) for number in range(frames)]
    size = len(pictures[0])
    signed = height if bottom_up else -height
    header = struct.pack("<IiiHHIIiiII", 40, width, signed, 1, bits, 0, size, 0, 0, colours, 0) + palette.tobytes()
    stream = struct.pack(
        "<4s4sIHHIIIIIIIIhhhh", b"vids", b"DIB ", 0, 0, 0, 0, 1, 25, 0, frames, size, 0, 0, 0, 0, width, height
    )
    main = struct.pack("<14I", 40_000, size * 25, 0, 16, frames, 0, 1, size, width, height, 0, 0, 0, 0)
    headers = _chunk(b"avih", main) + _list(b"strl", _chunk(b"strh", stream) + _chunk(b"strf", header))
    content = b"".join(_chunk(b"00db", picture) for picture in pictures)
    index, at = b"", 4
    for picture in pictures:
        index += struct.pack("<4sIII", b"00db", 16, at, len(picture))
        at += 8 + len(picture) + len(picture) % 2
    body = b"AVI " + _list(b"hdrl", headers) + _list(b"movi", content) + _chunk(b"idx1", index)
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)


def _rows(random: np.random.Generator, width: int, height: int, bits: int, number: int) -> bytes:
    """A picture of coarse blocks, which survives resizing, each row padded to four bytes."""
    stride = (width * bits + 31) // 32 * 4
    if bits in _PALETTE_DEPTHS:
        blocks = random.integers(0, 1 << bits, (height // 8 + 1, width // 8 + 1), dtype=np.uint8)
        values = np.kron(blocks, np.ones((8, 8), np.uint8))[:height, :width]
        expanded = np.unpackbits(values[..., None], axis=2)[..., 8 - bits :].reshape(height, -1)
        packed: npt.NDArray[np.uint8] = np.packbits(expanded, axis=1)
    else:
        blocks = random.integers(0, 256, (height // 8 + 1, width // 8 + 1, bits // 8), dtype=np.uint8)
        packed = np.repeat(np.repeat(blocks, 8, 0), 8, 1)[:height, :width].reshape(height, -1)
    packed[number % height] ^= 0x55
    padded = np.zeros((height, stride), np.uint8)
    padded[:, : packed.shape[1]] = packed
    return padded.tobytes()


def _chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def _list(name: bytes, content: bytes) -> bytes:
    return _chunk(b"LIST", name + content)
