"""Inputs that are cut off or damaged."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from testing.corpus.inputs import CorpusInput
from testing.corpus.tools import ffmpeg

__all__ = ["damaged_inputs"]

_FILES = {
    "avi": ("-c:v", "mjpeg", "-q:v", "2", "-pix_fmt", "yuvj420p"),
    "mp4": ("-c:v", "libx264", "-g", "10", "-movflags", "faststart"),
    "mkv": ("-c:v", "libx264", "-g", "10"),
    "ts": ("-c:v", "libx264", "-g", "10"),
    "mpg": ("-c:v", "mpeg2video", "-q:v", "3", "-g", "10"),
    "flv": ("-c:v", "flv", "-q:v", "3", "-g", "10"),
}


def damaged_inputs() -> Iterator[CorpusInput]:
    """Yields inputs that are cut off or damaged."""
    for suffix in _FILES:
        for keep in (0.9, 0.6, 0.35):
            make = functools.partial(_cut_off, keep=keep)
            yield CorpusInput("cut off", f"cut-off-{keep}.{suffix}", make, may_warn=True, fewer_frames=1)
    yield CorpusInput(
        "cut off", "no-index.mp4", _without_index, error="is incomplete: its index (the moov box) is missing"
    )
    for suffix in ("avi", "mkv", "ts", "mpg"):
        left_out = 6 if suffix == "avi" else 0
        yield CorpusInput("damaged", f"damaged.{suffix}", _damaged, may_warn=True, fewer_frames=left_out)


def _write(folder: Path, path: Path) -> bytearray:
    ffmpeg("-i", folder / "source.nut", *_FILES[path.suffix[1:]], path)
    return bytearray(path.read_bytes())


def _cut_off(folder: Path, path: Path, keep: float) -> None:
    content = _write(folder, path)
    path.write_bytes(content[: int(len(content) * keep)])


def _without_index(folder: Path, path: Path) -> None:
    ffmpeg("-i", folder / "source.nut", "-c:v", "libx264", path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def _damaged(folder: Path, path: Path) -> None:
    content = _write(folder, path)
    places = np.random.default_rng(0).integers(len(content) // 3, len(content) * 9 // 10, 12)
    for place in places:
        content[place] ^= 0x5A
    path.write_bytes(content)
