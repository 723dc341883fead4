"""Joint angles over time.

A pose is one row of degrees, `Pose`; a motion is ``float[N, P]`` for N moments, with P = ``len(Pose())``.
Lengths are in body heights, times in seconds.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["FloatArray", "Pose", "Track", "gait", "in_between", "left_or_right", "sway", "waves"]

FloatArray = NDArray[np.float64]

STRIDE = 0.8
"""Distance of two steps."""

JOG = 1.0
"""Speed in body heights a second from which a gait is a run."""


class Pose(NamedTuple):
    """Joint angles in degrees: all zero is upright, positive is in the facing direction.

    Arms turn relative to the torso, legs and torso relative to the upright; elbows and knees bend by their angle.
    `tilt` turns the whole person: -90 is lying on the back, 90 on the front.
    """

    lean: float = 3.0
    nod: float = 0.0
    near_shoulder: float = 6.0
    near_elbow: float = 14.0
    far_shoulder: float = -3.0
    far_elbow: float = 14.0
    near_hip: float = 6.0
    near_knee: float = 5.0
    far_hip: float = -5.0
    far_knee: float = 5.0
    tilt: float = 0.0

    def other_side(self) -> Pose:
        """Returns the pose with near and far limbs exchanged."""
        return self._replace(
            near_shoulder=self.far_shoulder,
            near_elbow=self.far_elbow,
            far_shoulder=self.near_shoulder,
            far_elbow=self.near_elbow,
            near_hip=self.far_hip,
            near_knee=self.far_knee,
            far_hip=self.near_hip,
            far_knee=self.near_knee,
        )


@dataclasses.dataclass(frozen=True)
class Track:
    """The motion of one person over N moments.

    Attributes:
        place: Position of the hips, ``float[N]``.
        facing: 1 to the right, -1 to the left.
        poses: ``float[N, P]``.
    """

    place: FloatArray
    facing: int
    poses: FloatArray


def in_between(times: FloatArray, key_times: Sequence[float], keys: FloatArray) -> FloatArray:
    """Interpolates between keys with smoothstep easing.

    Args:
        times: Moments, ``float[N]``.
        key_times: Ascending moments of the keys, K of them; constant before the first and after the last.
        keys: Values at the keys, ``float[K, ...]``.

    Returns:
        Values at ``times``, ``float[N, ...]``.
    """
    position = np.interp(times, key_times, np.arange(len(key_times)))
    before = np.minimum(position.astype(int), len(key_times) - 1)
    after = np.minimum(before + 1, len(key_times) - 1)
    share = position - before
    eased: FloatArray = (share * share * (3 - 2 * share)).reshape(-1, *[1] * (keys.ndim - 1))
    moved: FloatArray = keys[before] * (1 - eased) + keys[after] * eased
    return moved


def gait(travelled: FloatArray, speed: FloatArray, phase: float) -> FloatArray:
    """Poses of walking or running in step with the distance; standing at speed 0.

    Args:
        travelled: Distance covered so far, ``float[N]``.
        speed: Body heights a second, ``float[N]``.
        phase: Phase of the stride at the start, in radians.

    Returns:
        Poses, ``float[N, P]``.
    """
    stride = STRIDE * np.where(speed > JOG, 1.4, 1.0)
    angle = phase + 2 * np.pi * travelled / stride
    effort = np.clip(speed / 0.6, 0, 1)
    run = np.clip((speed - JOG) / 0.4, 0, 1)
    poses = np.tile(np.array(Pose()), (len(travelled), 1))
    for hip, shoulder, swing in (("near_hip", "far_shoulder", angle), ("far_hip", "near_shoulder", angle + np.pi)):
        forward = np.sin(swing)
        lifted = np.clip(np.cos(swing), 0, None) ** 2
        poses[:, Pose._fields.index(hip)] += effort * (24 + 14 * run) * forward + 8 * run
        poses[:, Pose._fields.index(hip.replace("hip", "knee"))] += effort * (4 + (48 + 35 * run) * lifted)
        poses[:, Pose._fields.index(shoulder)] += effort * (22 + 18 * run) * forward
        poses[:, Pose._fields.index(shoulder.replace("shoulder", "elbow"))] += effort * (4 + 65 * run)
    poses[:, Pose._fields.index("lean")] += 2 * effort + 9 * run
    return poses


def waves(times: FloatArray, rng: np.random.Generator, count: int, seconds: tuple[float, float]) -> FloatArray:
    """Random smooth curves between about -1 and 1, each the sum of three sines.

    Args:
        times: Moments, ``float[N]``.
        rng: Random generator.
        count: Number of curves, C.
        seconds: Shortest and longest period.

    Returns:
        ``float[N, C]``.
    """
    periods = rng.uniform(*seconds, (3, count))
    phases = rng.uniform(0, 2 * np.pi, (3, count))
    curves: FloatArray = np.sin(2 * np.pi * times[:, None, None] / periods + phases).sum(axis=1) / 2.2
    return curves


def sway(times: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Small motions of a standing person, to be added to poses, ``float[N, P]``."""
    extent = Pose(1.5, 5, 4, 6, 4, 6, 1.5, 2.5, 1.5, 2.5, 0)
    unrest: FloatArray = waves(times, rng, len(extent), (0.9, 3.0)) * extent
    return unrest


def left_or_right(rng: np.random.Generator) -> int:
    """Returns -1 or 1 at random."""
    return int(rng.choice([-1, 1]))
