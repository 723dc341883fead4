"""Frames of a clip in one row, as an image inside the page."""

from __future__ import annotations

import base64

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["contact_sheet"]

_STRIP_FRAMES = 8
_FRAME_HEIGHT = 128
_FRAME_MAX_WIDTH = 228
_STRIP_MAX_BYTES = 40_000
_JPEG_QUALITIES = (82, 65, 45, 25, 10)


def contact_sheet(frames: npt.NDArray[np.uint8], most: int = _STRIP_FRAMES) -> str:
    """Arranges some frames of a clip, evenly spaced in time, in one row.

    Args:
        frames: uint8[T, H, W, 3] in RGB, T > 0.
        most: How many frames at most.

    Returns:
        A JPEG of at most about 40 kB as a ``data:`` URI.
    """
    chosen = np.linspace(0, len(frames) - 1, min(most, len(frames))).round().astype(int)
    height, width = frames.shape[1:3]
    size = (min(max(round(_FRAME_HEIGHT * width / height), 1), _FRAME_MAX_WIDTH), _FRAME_HEIGHT)
    strip = np.hstack([cv2.resize(frames[index], size, interpolation=cv2.INTER_AREA) for index in chosen])
    jpeg = b""
    for quality in _JPEG_QUALITIES:
        _, encoded = cv2.imencode(".jpg", cv2.cvtColor(strip, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
        jpeg = encoded.tobytes()
        if len(jpeg) <= _STRIP_MAX_BYTES:
            break
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode('ascii')}"
