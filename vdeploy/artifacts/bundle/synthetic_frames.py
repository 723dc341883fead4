"""Structured frames that stand in for real ones where a check has no data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["synthetic_frames"]


def synthetic_frames(clips: int, frames: int, size: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Structured frames for parity checks without data: moving gradients and blocks of distinct colours, some noise.

    Every channel, every corner and every moment differs, so that swapped channels, axes or frames show.

    Args:
        clips: B.
        frames: T.
        size: H = W.
        seed: Seed of colours and noise.

    Returns:
        ``uint8[B, T, H, W, 3]``.
    """
    random = np.random.default_rng(seed)
    ramp = np.linspace(0, 255, size, dtype=np.float32)
    result = np.empty((clips, frames, size, size, 3), np.uint8)
    for clip in range(clips):
        base = np.stack(
            [np.tile(ramp, (size, 1)), np.tile(ramp[::-1, None], (1, size)), np.full((size, size), 60.0)], -1
        )
        base = base[..., random.permutation(3)]
        colour, top, left = random.uniform(0, 255, 3), *random.integers(0, size // 2, 2)
        for time in range(frames):
            frame = base + random.normal(0, 8, base.shape)
            shift = time * size // (2 * frames)
            frame[top : top + size // 3, left + shift : left + shift + size // 4] = colour
            result[clip, time] = frame.clip(0, 255)
    return result
