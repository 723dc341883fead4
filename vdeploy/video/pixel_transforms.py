"""Transforms of the pixels of a clip: what a camera, its light and its encoder may do to a scene.

What a transform draws holds for all frames of the clip; only the noise differs from frame to frame, as a sensor's does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, cast

import cv2
import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Frames = npt.NDArray[np.uint8]

__all__ = ["PIXEL_TRANSFORMS", "blur", "color", "compression", "crop", "flip", "low_light", "noise"]

_LUMA = np.array((0.299, 0.587, 0.114))
"""Weights of red, green and blue in the brightness of a pixel (ITU-R BT.601)."""


def crop(frames: Frames, strength: float, random: np.random.Generator) -> Frames:
    """Show a part of the frames in their size, as a camera does that is closer.

    Args:
        frames: ``uint8[T, H, W, 3]``, RGB.
        strength: Largest share of height and width that is cut off.
        random: Draws the share, one for both, and the place.

    Returns:
        ``uint8[T, H, W, 3]``, enlarged bilinearly.
    """
    height, width = frames.shape[1:3]
    share = 1 - _amount(strength, random)
    rows, columns = max(round(share * height), 1), max(round(share * width), 1)
    top, left = random.integers(height - rows + 1), random.integers(width - columns + 1)
    seen = frames[:, top : top + rows, left : left + columns]
    return _each(seen, lambda frame: cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR))


def flip(frames: Frames, strength: float, random: np.random.Generator) -> Frames:
    """Swap left and right; nothing is drawn."""
    del strength, random
    return frames[:, :, ::-1]


def low_light(frames: Frames, strength: float, random: np.random.Generator) -> Frames:
    """Darken the frames: v becomes v to the power of gamma, for values from 0 to 1.

    The power is that of Lv, Li and Lu 2021, "Attention Guided Low-Light Image Enhancement with a Large Scale Low-Light
    Simulation Dataset", sec. 3, without their linear factors.

    Args:
        frames: ``uint8[T, H, W, 3]``.
        strength: Gamma is at most 1 more than this.
        random: Draws gamma.
    """
    table = np.rint(255 * (np.arange(256) / 255) ** (1 + _amount(strength, random))).astype(np.uint8)
    return table[frames]


def color(frames: Frames, strength: float, random: np.random.Generator) -> Frames:
    """Change saturation, contrast about the mean brightness of the clip, and brightness, one after the other.

    Args:
        frames: ``uint8[T, H, W, 3]``, RGB.
        strength: Each is multiplied by a factor from 1 less than this to 1 more.
        random: Draws the three factors.
    """
    saturation, contrast, brightness = 1 + strength * random.uniform(-1, 1, 3)
    mean = frames.mean(axis=(0, 1, 2)) @ _LUMA
    matrix = brightness * contrast * (saturation * np.eye(3) + (1 - saturation) * _LUMA)
    shift = np.full((3, 1), brightness * (1 - contrast) * mean)
    changed = cv2.transform(np.ascontiguousarray(frames).reshape(-1, 1, 3), np.hstack([matrix, shift]))
    return cast("Frames", changed).reshape(frames.shape)


def blur(frames: Frames, strength: float, random: np.random.Generator) -> Frames:
    """Blur the frames by a Gaussian, as a lens does that is out of focus.

    Args:
        frames: ``uint8[T, H, W, 3]``.
        strength: Largest standard deviation in pixels.
        random: Draws the standard deviation.
    """
    sigma = _amount(strength, random)
    return _each(frames, lambda frame: cv2.GaussianBlur(frame, (0, 0), sigma))


def noise(frames: Frames, strength: float, random: np.random.Generator) -> Frames:
    """Add Gaussian noise, another one to each frame, pixel and channel.

    Args:
        frames: ``uint8[T, H, W, 3]``.
        strength: Largest standard deviation in grey levels of 255.
        random: Draws the standard deviation and the noise.
    """
    deviation = np.float32(_amount(strength, random))

    def noisy(frame: Frames) -> Frames:
        changed = frame + deviation * random.standard_normal(frame.shape, np.float32)
        return cast("Frames", np.clip(np.rint(changed), 0, 255).astype(np.uint8))

    return _each(frames, noisy)


def compression(frames: Frames, strength: float, random: np.random.Generator) -> Frames:
    """Encode each frame as JPEG and decode it again.

    Args:
        frames: ``uint8[T, H, W, 3]``, RGB.
        strength: Largest share of the quality 100 that is lost; at least a quality of 1 is left.
        random: Draws the quality.
    """
    quality = max(round(100 * (1 - _amount(strength, random))), 1)

    def compressed(frame: Frames) -> Frames:
        picture = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
        _, encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
        return cast("Frames", cv2.cvtColor(cv2.imdecode(encoded, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB))

    return _each(frames, compressed)


PIXEL_TRANSFORMS: Mapping[str, Callable[[Frames, float, np.random.Generator], Frames]] = {
    transform.__name__: transform for transform in (crop, flip, low_light, color, blur, noise, compression)
}
"""The transforms by name, in the order of a camera: the view, the light, the lens, the sensor, the encoder."""


def _amount(strength: float, random: np.random.Generator) -> float:
    """A number above 0 and up to the strength."""
    return strength * (1 - random.random())


def _each(frames: Frames, transform: Callable[[Frames], object]) -> Frames:
    return np.stack([cast("Frames", transform(np.ascontiguousarray(frame))) for frame in frames])
