"""Clips that look alike, found by perceptual hashes of three frames.

The hash is pHash: the signs of the 63 lowest frequencies of a frame's discrete cosine transform about their median
(Zauner, Implementation and Benchmarking of Perceptual Image Hash Functions, 2010, section 3.2.1).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vdeploy.core.errors import ClipError
from vdeploy.core.lazy_imports import require
from vdeploy.video.clips import ClipSpec
from vdeploy.video.workers.clips import decode_clips

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["alike_across_sources", "hash_clips", "hash_frames"]

SPEC = ClipSpec(frames=3, size=32)
"""A hash needs no more than this."""

LOW_FREQUENCIES = 8

MOST_DIFFERENT_BITS = 0.08
"""Share of the bits that may differ between clips that look alike: 15 of 189. Recompressed and rescaled copies differ
in fewer; other scenes in about half of them."""

_ROWS_AT_ONCE = 256


def hash_frames(frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """The perceptual hash of a clip.

    Args:
        frames: ``uint8[3, 32, 32, 3]`` RGB.

    Returns:
        ``bool[189]``, 63 bits for each frame.

    Raises:
        MissingExtraError: SciPy is not installed.
    """
    fft: Any = require("scipy.fft", extra="train", purpose="comparing clips")
    grey = frames.astype(np.float64) @ (0.299, 0.587, 0.114)
    spectrum = fft.dctn(grey, axes=(1, 2))[:, :LOW_FREQUENCIES, :LOW_FREQUENCIES].reshape(len(frames), -1)[:, 1:]
    bits: npt.NDArray[np.bool_] = (spectrum > np.median(spectrum, axis=1, keepdims=True)).ravel()
    return bits


def hash_clips(paths: Iterable[Path]) -> Iterator[npt.NDArray[np.bool_] | None]:
    """The hash of each video in turn; ``None`` for one that cannot be decoded."""
    for _, outcome in decode_clips(paths, SPEC):
        yield None if isinstance(outcome, ClipError) else hash_frames(outcome.frames)


def alike_across_sources(hashes: npt.NDArray[np.bool_], sources: npt.NDArray[np.str_]) -> Iterator[tuple[int, int]]:
    """Pairs of clips of different sources that look alike.

    Args:
        hashes: ``bool[N, 189]``.
        sources: The source of each clip.

    Yields:
        Numbers of two clips, the smaller first.
    """
    signs = np.where(hashes, 1, -1).astype(np.int16)
    limit = signs.shape[1] * (1 - 2 * MOST_DIFFERENT_BITS)
    for start in range(0, len(signs), _ROWS_AT_ONCE):
        rows = signs[start : start + _ROWS_AT_ONCE]
        alike = (rows.astype(np.float32) @ signs.T.astype(np.float32)) >= limit
        alike &= sources[start : start + len(rows), None] != sources[None]
        for row, column in zip(*np.nonzero(alike), strict=True):
            if start + row < column:
                yield int(start + row), int(column)
