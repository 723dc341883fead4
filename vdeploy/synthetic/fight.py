"""Violent motion: punches, kicks and pushes, and the reactions to them.

Positions are in body heights to the right of the centre of the picture; times are in seconds.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from vdeploy.synthetic.calm import bystander
from vdeploy.synthetic.poses import FloatArray, Pose, Track, in_between, left_or_right, sway

__all__ = ["violent"]


@dataclasses.dataclass(frozen=True)
class _Blow:
    """An attack: its preparation and impact, the distance, and the reaction."""

    drawn: Pose
    landed: Pose
    distance: float
    shove: float
    hurt: Pose


_GUARD = Pose(
    lean=9, near_shoulder=48, near_elbow=108, far_shoulder=38, far_elbow=112,
    near_hip=26, near_knee=24, far_hip=-22, far_knee=16,
)  # fmt: skip
_HEAD_HIT = Pose(
    lean=-24, nod=-30, near_shoulder=42, near_elbow=55, far_shoulder=68, far_elbow=40,
    near_hip=20, near_knee=12, far_hip=-28, far_knee=30,
)  # fmt: skip
_BODY_HIT = Pose(
    lean=44, nod=12, near_shoulder=34, near_elbow=75, far_shoulder=44, far_elbow=60,
    near_hip=34, near_knee=40, far_hip=-4, far_knee=40,
)  # fmt: skip
_STAGGER = Pose(
    lean=-18, nod=12, near_shoulder=92, near_elbow=20, far_shoulder=74, far_elbow=30,
    near_hip=40, near_knee=20, far_hip=-20, far_knee=35,
)  # fmt: skip
_COWER = Pose(
    lean=40, nod=25, near_shoulder=105, near_elbow=118, far_shoulder=112, far_elbow=110,
    near_hip=46, near_knee=66, far_hip=8, far_knee=58,
)  # fmt: skip
_ON_THE_BACK = Pose(
    lean=6, nod=12, near_shoulder=70, near_elbow=60, far_shoulder=125, far_elbow=30,
    near_hip=48, near_knee=70, far_hip=12, far_knee=14, tilt=-88,
)  # fmt: skip
_ON_THE_FRONT = Pose(
    lean=2, nod=-14, near_shoulder=140, near_elbow=50, far_shoulder=100, far_elbow=80,
    near_hip=-4, near_knee=18, far_hip=10, far_knee=40, tilt=84,
)  # fmt: skip
_PUNCH = _Blow(
    drawn=_GUARD._replace(lean=-4, near_shoulder=-32, near_elbow=118),
    landed=_GUARD._replace(lean=22, near_shoulder=112, near_elbow=6, near_hip=36, far_hip=-32),
    distance=0.42, shove=0.12, hurt=_HEAD_HIT,
)  # fmt: skip
_HOOK = _Blow(
    drawn=_GUARD._replace(lean=14, near_shoulder=-48, near_elbow=70, near_knee=40, far_knee=34),
    landed=_GUARD._replace(lean=16, near_shoulder=92, near_elbow=62, near_hip=34, far_hip=-24),
    distance=0.32, shove=0.10, hurt=_BODY_HIT,
)  # fmt: skip
_KICK = _Blow(
    drawn=_GUARD._replace(lean=-8, near_hip=42, near_knee=96, far_hip=-2, far_knee=14),
    landed=_GUARD._replace(lean=-26, near_shoulder=20, near_elbow=60, near_hip=84, near_knee=8, far_hip=-10),
    distance=0.50, shove=0.20, hurt=_BODY_HIT,
)  # fmt: skip
_PUSH = _Blow(
    drawn=_GUARD._replace(lean=2, near_shoulder=52, near_elbow=112, far_shoulder=50, far_elbow=112),
    landed=_GUARD._replace(lean=32, near_shoulder=112, near_elbow=6, far_shoulder=106, far_elbow=8, far_hip=-36),
    distance=0.40, shove=0.30, hurt=_STAGGER,
)  # fmt: skip
_STOMP = _Blow(
    drawn=_GUARD._replace(lean=4, near_hip=72, near_knee=92, far_hip=-2, far_knee=8),
    landed=_GUARD._replace(lean=16, near_hip=48, near_knee=18, far_hip=-14, far_knee=22),
    distance=0.26, shove=0.03, hurt=_ON_THE_BACK._replace(lean=24, nod=25, near_hip=70, near_knee=95),
)  # fmt: skip
_BLOWS = (_PUNCH, _PUNCH, _HOOK, _KICK, _PUSH)


def violent(times: FloatArray, people: int, reach: float, rng: np.random.Generator) -> list[Track]:
    """One person attacks another with punches, kicks and pushes; a third one stands by or joins.

    Args:
        times: Moments of the frames, ``float[N]``.
        people: 2 or 3.
        reach: Largest distance from the centre at which a person is fully visible.
        rng: Random generator.

    Returns:
        One track per person.
    """
    attackers = 2 if people == 3 and rng.random() < 0.5 else 1
    fighters = _fight(times, attackers, rng)
    return [*fighters, *(bystander(times, reach, rng) for _ in range(people - len(fighters)))]


class _Script:
    """Keyframes of one fighter.

    Args:
        place: First position.
        facing: 1 to the right, -1 to the left.
        pose: First pose.
    """

    def __init__(self, place: float, facing: int, pose: Pose) -> None:
        self.facing = facing
        self.fallen: Pose | None = None
        self._times, self._places, self._poses = [0.0], [place], [pose]

    @property
    def place(self) -> float:
        """Position of the last keyframe."""
        return self._places[-1]

    def key(self, time: float, pose: Pose | None = None, place: float | None = None) -> None:
        """Adds a keyframe; pose and position are those of the last one by default."""
        self._times.append(max(time, self._times[-1] + 1e-3))
        self._poses.append(self._poses[-1] if pose is None else pose)
        self._places.append(self.place if place is None else place)

    def track(self, times: FloatArray, rng: np.random.Generator) -> Track:
        """Interpolates the keyframes and adds sway."""
        poses = in_between(times, self._times, np.array(self._poses)) + 1.5 * sway(times, rng)
        return Track(in_between(times, self._times, np.array(self._places)), self.facing, poses)


def _fight(times: FloatArray, attackers: int, rng: np.random.Generator) -> list[Track]:
    facing = left_or_right(rng)
    opening = rng.uniform(0.4, 0.8)
    victim = _Script(rng.uniform(-0.1, 0.1) - facing * 0.1, -facing, Pose() if rng.random() < 0.5 else _GUARD)
    cast = [victim]
    for number in range(attackers):
        towards = facing if number == 0 else -facing
        cast.append(_Script(victim.place - towards * opening, towards, _GUARD))
    now, turn = rng.uniform(0.0, 0.15), 0
    while now < times[-1]:
        attacker, target = cast[1 + turn % attackers], victim
        if victim.fallen is None and attackers == 1 and turn > 0 and rng.random() < 0.3:
            attacker, target = victim, attacker
        now = _exchange(attacker, target, now, rng, may_fall=attacker is not victim)
        turn += 1
    return [script.track(times, rng) for script in cast]


def _exchange(attacker: _Script, target: _Script, now: float, rng: np.random.Generator, *, may_fall: bool) -> float:
    """Adds the keyframes of one blow; returns the time at which the next may begin."""
    blow = _STOMP if target.fallen is not None else _BLOWS[rng.integers(len(_BLOWS))]
    flipped = rng.random() < 0.5
    drawn, landed = (pose.other_side() if flipped else pose for pose in (blow.drawn, blow.landed))
    lunge = now + rng.uniform(0.12, 0.22)
    impact = lunge + rng.uniform(0.08, 0.13)
    over = impact + rng.uniform(0.16, 0.28)
    away = attacker.facing
    near = target.place - away * blow.distance * rng.uniform(0.85, 1.05)
    attacker.key(now)
    attacker.key(lunge, drawn, (attacker.place + 2 * near) / 3)
    attacker.key(impact, landed, near)
    attacker.key(over, _GUARD)

    target.key(impact - 0.03)
    back = target.place + away * blow.shove * rng.uniform(0.7, 1.3)
    if target.fallen is not None:
        target.key(impact + 0.1, blow.hurt if target.fallen is _ON_THE_BACK else None, back)
        target.key(over, target.fallen)
        return over
    target.key(impact + rng.uniform(0.08, 0.14), blow.hurt, back)
    if may_fall and rng.random() < 0.6:
        target.fallen = _ON_THE_FRONT if blow.hurt is _BODY_HIT else _ON_THE_BACK
        over = impact + rng.uniform(0.4, 0.5)
        target.key(over, target.fallen, back + away * 0.12)
    else:
        target.key(over, _COWER if rng.random() < 0.35 else _GUARD)
    return over
