"""One synthetic clip, frame by frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vdeploy.synthetic.backdrop import paint_backdrop
from vdeploy.synthetic.calm import calm
from vdeploy.synthetic.camera import SUPERSAMPLING, Camera
from vdeploy.synthetic.fight import violent
from vdeploy.synthetic.figure import Figure, Image

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vdeploy.synthetic.poses import FloatArray, Track

__all__ = ["choreograph", "frames_of"]

_SHAKE = 0.03
"""Largest shake of the camera, as a share of the frame's height."""

_SECONDS = (1.6, 2.4)
"""Shortest and longest clip."""


def frames_of(seed: int, index: int, *, is_violent: bool, size: tuple[int, int], fps: float) -> Iterator[Image]:
    """Draws one clip.

    Everything except the motion depends on ``seed`` and ``index`` only.

    Args:
        seed: Of the data set.
        index: Of the clip in it.
        is_violent: Class of the motion.
        size: Width and height in pixels.
        fps: Frames a second.

    Yields:
        BGR frames, ``uint8[height, width, 3]``.
    """
    times, people = _extent(seed, index, fps)
    look = _generator(seed, index, "look")
    width, height = (SUPERSAMPLING * pixels for pixels in size)
    margin = round(_SHAKE * height)
    width, height = width + 2 * margin, height + 2 * margin

    horizon = look.uniform(0.5, 0.68)
    backdrop = paint_backdrop(look, width, height, round(horizon * height))
    stature = look.uniform(0.58, 0.76) * height
    depths = look.uniform(0.86, 0.95) + look.normal(0, 0.006, 2)
    if people == 3:
        depths = np.append(depths, look.uniform(0.82, 0.97))
    figures = [Figure.random(look, stature * (0.5 + 0.5 * depth / depths[0])) for depth in depths]
    camera = Camera.random(look, times)
    noise = _generator(seed, index, "noise")
    tracks = choreograph(seed, index, is_violent=is_violent, fps=fps, reach=width / 2 / stature - 0.2)

    cast = sorted(zip(depths, figures, tracks, strict=True), key=lambda person: float(person[0]))
    for frame in range(len(times)):
        scene = backdrop.copy()
        for depth, figure, track in cast:
            hips = width / 2 + track.place[frame] * stature
            figure.draw(scene, track.poses[frame], track.facing, hips, depth * height)
        yield camera.shoot(scene, frame, size, noise)


def choreograph(seed: int, index: int, *, is_violent: bool, fps: float, reach: float) -> list[Track]:
    """Creates the motion of the people in one clip.

    Args:
        seed: Of the data set.
        index: Of the clip in it.
        is_violent: Class of the motion.
        fps: Frames a second.
        reach: Largest distance from the centre at which a person is fully visible, in body heights.

    Returns:
        One track per person, two or three.
    """
    times, people = _extent(seed, index, fps)
    act = violent if is_violent else calm
    return act(times, people, reach, _generator(seed, index, "motion"))


def _extent(seed: int, index: int, fps: float) -> tuple[FloatArray, int]:
    """Returns the times of the frames and the number of people."""
    rng = _generator(seed, index, "extent")
    frames = round(rng.uniform(*_SECONDS) * fps)
    return np.arange(frames) / fps, int(rng.integers(2, 4))


def _generator(seed: int, index: int, purpose: str) -> np.random.Generator:
    """Returns an independent random generator for each clip and purpose."""
    return np.random.default_rng([seed, index, *purpose.encode()])
