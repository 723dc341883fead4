"""The camera: shake, exposure flicker, blur and noise."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import cv2
import numpy as np

from vdeploy.synthetic.poses import FloatArray, waves

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vdeploy.synthetic.figure import Image

__all__ = ["SUPERSAMPLING", "Camera"]

SUPERSAMPLING = 2
"""Pixels of the scene per pixel of the frame, in each direction."""


@dataclasses.dataclass(frozen=True)
class Camera:
    """A hand-held camera over N frames.

    Attributes:
        offsets: Shift to the right and down as shares of the largest shake, ``float[N, 2]``.
        gains: Gain of each frame, around 1, ``float[N]``.
        tint: Factors of the channels B, G, R, ``float[3]``.
        blur: Standard deviation of the lens's blur in pixels.
        noise: Standard deviation of the sensor's noise in levels of 255.
    """

    offsets: FloatArray
    gains: FloatArray
    tint: FloatArray
    blur: float
    noise: float

    @classmethod
    def random(cls, rng: np.random.Generator, times: FloatArray) -> Camera:
        """Draws a camera at random.

        Args:
            rng: Random generator.
            times: Moments of the frames in seconds, ``float[N]``.
        """
        drift = waves(times, rng, 2, (1.5, 4.0)) * rng.uniform(0.1, 0.7)
        tremor = waves(times, rng, 2, (0.15, 0.5)) * rng.uniform(0.0, 0.2)
        flicker = waves(times, rng, 1, (0.08, 0.4))[:, 0] * rng.uniform(0.0, 0.03)
        return cls(
            offsets=np.clip(drift + tremor, -1, 1),
            gains=rng.uniform(0.8, 1.25) * (1 + flicker),
            tint=rng.uniform(0.9, 1.1, 3),
            blur=rng.uniform(0.3, 0.9),
            noise=rng.uniform(1.5, 5.0),
        )

    def shoot(self, scene: Image, frame: int, size: tuple[int, int], rng: np.random.Generator) -> Image:
        """Renders one frame.

        Args:
            scene: BGR picture, larger than the frame by the margin of the shake.
            frame: Number of the frame.
            size: Width and height of the frame in pixels.
            rng: Random generator of the noise.

        Returns:
            BGR, ``uint8[height, width, 3]``.
        """
        width, height = size
        wide, high = SUPERSAMPLING * width, SUPERSAMPLING * height
        spare = np.array([scene.shape[1] - wide, scene.shape[0] - high]) / 2
        left, top = np.rint(spare * (1 + self.offsets[frame])).astype(int)
        seen = scene[top : top + high, left : left + wide]
        picture = cv2.resize(seen, size, interpolation=cv2.INTER_AREA).astype(np.float32)
        picture = cv2.GaussianBlur(picture, (0, 0), sigmaX=self.blur)
        exposed: NDArray[np.float32] = cv2.transform(picture, np.diag(self.gains[frame] * self.tint))
        grain = rng.standard_normal((height, width), dtype=np.float32) * np.float32(self.noise)
        exposed += cv2.merge((grain, grain, grain))
        return np.clip(exposed, 0, 255, out=exposed).astype(np.uint8)
