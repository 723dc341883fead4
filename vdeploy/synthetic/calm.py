"""Non-violent motion: people stroll, pass each other, talk, greet, embrace or stand by.

Positions are in body heights to the right of the centre of the picture; times are in seconds.
"""

from __future__ import annotations

import numpy as np

from vdeploy.synthetic.poses import FloatArray, Pose, Track, gait, in_between, left_or_right, sway, waves

__all__ = ["bystander", "calm"]

_EMBRACE = Pose(lean=10, near_shoulder=78, near_elbow=40, far_shoulder=62, far_elbow=55)

_IDLE = (
    Pose(),
    Pose(near_shoulder=30, near_elbow=70, far_shoulder=22, far_elbow=60),
    Pose(nod=14, near_shoulder=38, near_elbow=105),
    Pose(nod=-6, near_shoulder=35, near_elbow=142),
    Pose(nod=-8, near_shoulder=150, near_elbow=25),
    Pose(near_shoulder=80, near_elbow=8),
)
"""Resting, explaining, reading a phone, calling, waving, pointing."""

_PICK_UP = Pose(lean=66, nod=10, near_shoulder=62, near_elbow=8, near_hip=18, near_knee=30, far_hip=2, far_knee=25)


def calm(times: FloatArray, people: int, reach: float, rng: np.random.Generator) -> list[Track]:
    """People stroll, pass each other, talk, wave, greet or embrace.

    Args:
        times: Moments of the frames, ``float[N]``.
        people: 2 or 3.
        reach: Largest distance from the centre at which a person is fully visible.
        rng: Random generator.

    Returns:
        One track per person.
    """
    encounters = (_strolling, _talking, _meeting)
    pair = encounters[rng.integers(len(encounters))](times, reach, rng)
    return [*pair, *(bystander(times, reach, rng) for _ in range(people - 2))]


def bystander(times: FloatArray, reach: float, rng: np.random.Generator) -> Track:
    """A person who walks by or stands at one side.

    Args:
        times: Moments of the frames, ``float[N]``.
        reach: Largest distance from the centre at which a person is fully visible.
        rng: Random generator.
    """
    if rng.random() < 0.5:
        return _walker(times, rng.uniform(-0.7, 0.7) * reach, rng)
    place = left_or_right(rng) * rng.uniform(0.45, 0.9) * reach
    return Track(np.full_like(times, place), -1 if place > 0 else 1, _standing(times, rng, alone=True))


def _strolling(times: FloatArray, reach: float, rng: np.random.Generator) -> list[Track]:
    return [_walker(times, rng.uniform(-0.5, 0.5) * reach, rng) for _ in range(2)]


def _talking(times: FloatArray, reach: float, rng: np.random.Generator) -> list[Track]:
    gap, middle = rng.uniform(0.4, 0.9), rng.uniform(-0.4, 0.4) * reach
    return [
        Track(np.full_like(times, middle - facing * gap / 2), facing, _standing(times, rng, alone=gap > 0.7))
        for facing in (1, -1)
    ]


def _meeting(times: FloatArray, reach: float, rng: np.random.Generator) -> list[Track]:
    gap, middle, stop = rng.uniform(0.26, 0.5), rng.uniform(-0.4, 0.4) * reach, rng.uniform(0.5, 1.1)
    greeting = _EMBRACE if gap < 0.34 else Pose(lean=8, near_shoulder=52, near_elbow=32)
    shake = np.array(greeting) - np.array(Pose())
    tracks = []
    for facing in (1, -1):
        speed = np.clip((stop - times) / 0.35, 0, 1) * rng.uniform(0.6, 1.0)
        travelled = _travelled(times, speed)
        share = in_between(times, [stop - 0.2, stop + 0.35], np.array([0.0, 1.0]))[:, None]
        poses = gait(travelled, speed, rng.uniform(0, 2 * np.pi)) + share * shake + sway(times, rng)
        poses[:, Pose._fields.index("near_elbow")] += 9 * share[:, 0] * np.sin(2 * np.pi * 2.2 * times)
        tracks.append(Track(middle - facing * (gap / 2 + travelled[-1] - travelled), facing, poses))
    return tracks


def _walker(times: FloatArray, halfway: float, rng: np.random.Generator) -> Track:
    facing = left_or_right(rng)
    speed = np.full_like(times, rng.uniform(1.1, 1.4) if rng.random() < 0.12 else rng.uniform(0.4, 1.0))
    travelled = _travelled(times, speed)
    poses = gait(travelled, speed, rng.uniform(0, 2 * np.pi)) + sway(times, rng)
    return Track(halfway + facing * (travelled - travelled[-1] / 2), facing, poses)


def _standing(times: FloatArray, rng: np.random.Generator, *, alone: bool) -> FloatArray:
    start = rng.uniform(-0.6, 0.9)
    acts = (*_IDLE, _PICK_UP) if alone else _IDLE
    act = acts[rng.integers(len(acts))]
    if rng.random() < 0.5:
        act = act.other_side()
    poses = in_between(times, [start, start + 0.7], np.array([Pose(), act])) + sway(times, rng)
    arms = [Pose._fields.index(f"{side}_{joint}") for side in ("near", "far") for joint in ("shoulder", "elbow")]
    gestures = waves(times, rng, len(arms), (0.7, 2.0)) * [14, 22, 14, 22] * rng.uniform(0.2, 1.0)
    poses[:, arms] += gestures
    return poses


def _travelled(times: FloatArray, speed: FloatArray) -> FloatArray:
    travelled: FloatArray = np.cumsum(speed * np.diff(times, prepend=times[0]))
    return travelled
