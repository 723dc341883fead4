"""Inputs whose container says how they are shown: display matrices, several tracks, cover pictures."""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from testing.corpus.inputs import CorpusInput, transcoded
from testing.corpus.tools import ffmpeg

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["arrangement_inputs"]

_ONE = 1 << 16
_MATRIX_OFFSET = 44

_MATRICES = {
    "upright": (1, 0, 0, 1),
    "turned-90": (0, 1, -1, 0),
    "turned-180": (-1, 0, 0, -1),
    "turned-270": (0, -1, 1, 0),
    "mirrored": (-1, 0, 0, 1),
    "upside-down": (1, 0, 0, -1),
    "transposed": (0, 1, 1, 0),
    "anti-transposed": (0, -1, -1, 0),
}
"""The eight that map the axes onto each other: a, b, c, d of x' = ax + cy, y' = bx + dy."""


def arrangement_inputs() -> Iterator[CorpusInput]:
    """Yields inputs whose container says how they are shown."""
    for name, matrix in _MATRICES.items():
        for suffix in ("mp4", "mov"):
            make = functools.partial(_with_matrix, matrix=matrix)
            turn = functools.partial(_shown, matrix=matrix)
            yield CorpusInput("display matrix", f"{name}.{suffix}", make, turn=turn)
    blank = "-f lavfi -i color=s=32x32:d=1.2"
    codec = "-c:v mpeg4 -q:v 3"
    for suffix in ("mkv", "mp4", "mov", "ts"):
        yield transcoded(
            "two video tracks",
            f"small-first.{suffix}",
            f"{blank} SOURCE -map 0 -map 1 {codec} -disposition:v:0 0 -disposition:v:1 0",
            warning="2 video tracks",
        )
    for suffix in ("mkv", "mp4"):
        large = "-f lavfi -i color=s=200x200:d=1.2"
        dispositions = "-disposition:v:0 0 -disposition:v:1 default"
        yield transcoded(
            "two video tracks",
            f"default-second.{suffix}",
            f"{large} SOURCE -map 0 -map 1 {codec} {dispositions}",
            warning="2 video tracks",
        )
    for suffix in ("mp3", "m4a", "flac", "mka"):
        yield CorpusInput(
            "sound with a cover picture",
            f"cover.{suffix}",
            _with_cover,
            error="holds no video stream",
        )
    yield transcoded(
        "video with a cover picture",
        "poster.mp4",
        "SOURCE -i FOLDER/cover.png -map 0 -map 1 -c:v:0 libx264 -c:v:1 png -disposition:v:1 attached_pic",
    )
    for suffix in ("wav", "aac"):
        yield transcoded("sound alone", f"sound-alone.{suffix}", "SOUND", error="holds no video stream")


def _with_matrix(folder: Path, path: Path, matrix: tuple[int, int, int, int]) -> None:
    ffmpeg("-i", folder / "source.nut", "-c:v", "libx264", "-g", "10", path)
    content = bytearray(path.read_bytes())
    a, b, c, d = (value * _ONE for value in matrix)
    start = content.index(b"tkhd") + _MATRIX_OFFSET
    struct.pack_into(">9i", content, start, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content)


def _shown(picture: npt.NDArray[np.uint8], matrix: tuple[int, int, int, int]) -> npt.NDArray[np.uint8]:
    """Maps every stored pixel to its shown place, one by one."""
    a, b, c, d = matrix
    height, width = picture.shape[:2]
    y, x = np.mgrid[:height, :width]
    shown_x, shown_y = a * x + c * y, b * x + d * y
    shown_x, shown_y = shown_x - shown_x.min(), shown_y - shown_y.min()
    shown = np.empty((shown_y.max() + 1, shown_x.max() + 1, 3), np.uint8)
    shown[shown_y, shown_x] = picture
    return shown


def _with_cover(folder: Path, path: Path) -> None:
    cover = folder / "cover.png"
    if path.suffix == ".mka":
        ffmpeg("-f", "lavfi", "-i", "sine=d=1", "-attach", cover, "-metadata:s:t", "mimetype=image/png", path)
        return
    maps = ["-map", "0", "-map", "1", "-c:v", "png", "-disposition:v", "attached_pic"]
    ffmpeg("-f", "lavfi", "-i", "sine=d=1", "-i", cover, *maps, path)
