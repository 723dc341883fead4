"""A person: proportions, clothes, joints and drawing.

Colours are BGR as in OpenCV; lengths are in body heights until they are drawn.
"""

from __future__ import annotations

import colorsys
import dataclasses

import cv2
import numpy as np
from numpy.typing import NDArray

from vdeploy.synthetic.poses import FloatArray, Pose

__all__ = ["Color", "Figure", "Image", "hsv", "shade", "skeleton"]

Image = NDArray[np.uint8]
Color = tuple[float, float, float]

_FRACTION_BITS = 4
"""OpenCV draws at fixed-point coordinates with this many bits behind the point."""

_ARC = np.stack([np.cos(np.linspace(-np.pi / 2, np.pi / 2, 9)), np.sin(np.linspace(-np.pi / 2, np.pi / 2, 9))], axis=1)
"""Half a circle of radius 1 that bulges towards the first axis."""

_SKIN = ((0.06, 0.30, 0.95), (0.06, 0.40, 0.85), (0.06, 0.50, 0.70), (0.06, 0.55, 0.52), (0.06, 0.55, 0.38))
_HAIR = ((0.07, 0.5, 0.12), (0.07, 0.6, 0.25), (0.09, 0.6, 0.45), (0.11, 0.5, 0.75), (0.0, 0.0, 0.55))

_THIGH, _SHIN, _FOOT = 0.245, 0.235, 0.085
_TORSO, _NECK, _HEAD = 0.285, 0.105, 0.07
_UPPER_ARM, _FOREARM, _HAND = 0.165, 0.15, 0.024
_SPREAD = 0.028
"""Offset of near and far joints from the middle, as people are seen slightly from the front."""

_ANKLE = 25.0
"""Degrees by which an ankle turns to keep the sole flat."""


def hsv(hue: float, saturation: float, value: float) -> Color:
    """A BGR colour of 0 to 255 from hue, saturation and value of 0 to 1."""
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
    return (255 * blue, 255 * green, 255 * red)


def shade(color: Color, factor: float) -> Color:
    """A lighter or darker version of a colour."""
    blue, green, red = (min(255.0, channel * factor) for channel in color)
    return (blue, green, red)


@dataclasses.dataclass(frozen=True)
class Figure:
    """Appearance of one person.

    Attributes:
        height: Pixels from sole to crown.
        build: Thickness of the limbs, around 1.
        skin: Colour of head and hands.
        hair: Colour of the hair.
        shirt: Colour of the torso and of long sleeves.
        trousers: Colour of the legs.
        shoes: Colour of the feet.
        long_hair: Whether the hair covers the neck.
        short_sleeves: Whether the forearms are bare.
        shorts: Whether the shins are bare.
    """

    height: float
    build: float
    skin: Color
    hair: Color
    shirt: Color
    trousers: Color
    shoes: Color
    long_hair: bool
    short_sleeves: bool
    shorts: bool

    @classmethod
    def random(cls, rng: np.random.Generator, height: float) -> Figure:
        """Draws an appearance at random.

        Args:
            rng: Random generator.
            height: Average height in pixels.
        """
        return cls(
            height=height * rng.uniform(0.93, 1.05),
            build=rng.uniform(0.88, 1.22),
            skin=hsv(*_SKIN[rng.integers(len(_SKIN))]),
            hair=hsv(*_HAIR[rng.integers(len(_HAIR))]),
            shirt=hsv(rng.random(), rng.uniform(0.0, 0.8), rng.uniform(0.2, 0.95)),
            trousers=hsv(rng.uniform(0.05, 0.7), rng.uniform(0.0, 0.5), rng.uniform(0.12, 0.6)),
            shoes=hsv(rng.random(), rng.uniform(0.0, 0.4), rng.uniform(0.08, 0.9)),
            long_hair=bool(rng.random() < 0.4),
            short_sleeves=bool(rng.random() < 0.5),
            shorts=bool(rng.random() < 0.2),
        )

    def draw(self, image: Image, pose: FloatArray, facing: int, hips_x: float, ground_y: float) -> None:
        """Draws the person with the lowest point of the body on the ground.

        Args:
            image: BGR picture to draw into.
            pose: Angles, ``float[P]``.
            facing: 1 to the right, -1 to the left.
            hips_x: Column of the hips, in pixels.
            ground_y: Row of the ground, in pixels.
        """
        joints = skeleton(Pose(*pose))
        thickness = 0.035 * self.build
        lowest = max(point[1] for point in joints.values()) + thickness * 0.6
        points = {
            name: np.array([hips_x + facing * x * self.height, ground_y + (y - lowest) * self.height])
            for name, (x, y) in joints.items()
        }
        _cast_shadow(image, points, ground_y, self.height)
        brush = _Brush(image, self.height * self.build)
        self._arm(brush, points, "far", 0.78)
        self._leg(brush, points, "far", 0.78)
        self._leg(brush, points, "near", 1.0)
        self._trunk(brush, points)
        self._arm(brush, points, "near", 1.0)

    def _leg(self, brush: _Brush, points: dict[str, FloatArray], side: str, light: float) -> None:
        hip, knee, ankle, toe = (points[f"{side}_{joint}"] for joint in ("hip", "knee", "ankle", "toe"))
        brush.capsule(ankle, toe, 0.022, 0.016, shade(self.shoes, light))
        brush.capsule(knee, ankle, 0.037, 0.024, shade(self.skin if self.shorts else self.trousers, light))
        brush.capsule(hip, knee, 0.055, 0.039, shade(self.trousers, light))

    def _arm(self, brush: _Brush, points: dict[str, FloatArray], side: str, light: float) -> None:
        shoulder, elbow, wrist = (points[f"{side}_{joint}"] for joint in ("shoulder", "elbow", "wrist"))
        brush.capsule(wrist, wrist, _HAND, _HAND, shade(self.skin, light))
        brush.capsule(elbow, wrist, 0.025, 0.018, shade(self.skin if self.short_sleeves else self.shirt, light * 0.95))
        brush.capsule(shoulder, elbow, 0.034, 0.027, shade(self.shirt, light * 0.95))

    def _trunk(self, brush: _Brush, points: dict[str, FloatArray]) -> None:
        hips, chest, head = points["hips"], points["chest"], points["head"]
        up = head - chest
        up /= np.linalg.norm(up)
        front = points["front"] - hips
        brush.capsule(chest, head, 0.028, 0.028, shade(self.skin, 0.85))
        if self.long_hair:
            brush.capsule(head - front * 0.25, chest - front * 0.35, 0.055, 0.035, shade(self.hair, 0.9))
        brush.capsule(hips, hips + (chest - hips) * 0.2, 0.062, 0.062, self.trousers)
        brush.capsule(hips + (chest - hips) * 0.25, chest - up * brush.unit * 0.045, 0.064, 0.078, self.shirt)
        brush.capsule(head - up * brush.unit * 0.016, head + up * brush.unit * 0.016, 0.052, 0.054, self.skin)
        brush.capsule(
            head + up * brush.unit * 0.046,
            head + up * brush.unit * 0.020 - front * 0.34,
            0.031,
            0.040,
            self.hair,
        )
        brush.capsule(head + front * 0.55, head + front * 0.6, 0.009, 0.009, self.skin)


def skeleton(pose: Pose) -> dict[str, tuple[float, float]]:
    """Computes the joints: forward and down from the hips, in body heights.

    Returns:
        ``hips``, ``front`` (a point before the hips, along the torso's normal), ``chest``, ``head``, and for both sides
        ``shoulder``, ``elbow``, ``wrist``, ``hip``, ``knee``, ``ankle`` and ``toe``.
    """
    torso = pose.lean + pose.tilt
    hips = (0.0, 0.0)
    chest = _along(hips, 180 - torso, _TORSO)
    joints = {
        "hips": hips,
        "front": _along(hips, 90 - torso, 0.1),
        "chest": chest,
        "head": _along(chest, 180 - torso - pose.nod, _NECK + _HEAD / 2),
    }
    for side, offset, hip, knee, shoulder, elbow in (
        ("near", -_SPREAD, pose.near_hip, pose.near_knee, pose.near_shoulder, pose.near_elbow),
        ("far", _SPREAD, pose.far_hip, pose.far_knee, pose.far_shoulder, pose.far_elbow),
    ):
        thigh, arm = hip - pose.tilt, shoulder - torso
        joints[f"{side}_hip"] = _along(hips, 90 - torso, offset * 0.7)
        joints[f"{side}_knee"] = _along(joints[f"{side}_hip"], thigh, _THIGH)
        joints[f"{side}_ankle"] = _along(joints[f"{side}_knee"], thigh - knee, _SHIN)
        sole = thigh - knee + 88 - float(np.clip(hip - knee, -_ANKLE, _ANKLE))
        joints[f"{side}_toe"] = _along(joints[f"{side}_ankle"], sole, _FOOT)
        joints[f"{side}_shoulder"] = _along(_along(chest, -torso, 0.03), 90 - torso, offset * 1.6)
        joints[f"{side}_elbow"] = _along(joints[f"{side}_shoulder"], arm, _UPPER_ARM)
        joints[f"{side}_wrist"] = _along(joints[f"{side}_elbow"], arm + elbow, _FOREARM)
    return joints


def _along(start: tuple[float, float], degrees: float, length: float) -> tuple[float, float]:
    """Returns the point at a length from another; 0 degrees is down, 90 is forward."""
    angle = np.deg2rad(degrees)
    return (start[0] + length * float(np.sin(angle)), start[1] + length * float(np.cos(angle)))


class _Brush:
    """Draws rounded, softly lit limbs.

    Args:
        image: BGR picture to draw into.
        unit: Pixels in a length of 1.
    """

    def __init__(self, image: Image, unit: float) -> None:
        self.image = image
        self.unit = unit

    def capsule(self, start: FloatArray, end: FloatArray, start_radius: float, end_radius: float, color: Color) -> None:
        """A limb from one joint to another, outlined and lit from above left; points in pixels, radii in units."""
        along = end - start
        length = float(np.hypot(along[0], along[1]))
        turned = _ARC @ (np.array([along, [-along[1], along[0]]]) / length if length > 0 else np.eye(2))
        radii = np.array([start_radius, end_radius]) * self.unit
        layers = np.array([radii + 0.9, radii, radii * 0.58])
        glints = np.array([0.0, 0.0, -0.28])[:, None] * radii
        rounds = layers[:, :, None, None] * np.stack([-turned, turned]) + glints[:, :, None, None]
        rounds += np.stack([start, end])[:, None, :]
        outlines = np.rint(rounds.reshape(3, -1, 2) * (1 << _FRACTION_BITS)).astype(np.int32)
        for outline, light in zip(outlines, (0.6, 0.9, 1.07), strict=True):
            cv2.fillConvexPoly(self.image, outline, shade(color, light), cv2.LINE_AA, _FRACTION_BITS)


def _cast_shadow(image: Image, points: dict[str, FloatArray], ground_y: float, height: float) -> None:
    across = [float(point[0]) for name, point in points.items() if not name.endswith(("wrist", "elbow"))]
    center, half = (max(across) + min(across)) / 2, (max(across) - min(across)) / 2 + 0.05 * height
    top, bottom = max(0, round(ground_y - 0.045 * height)), max(0, round(ground_y + 0.035 * height))
    left, right = max(0, round(center - half)), max(0, round(center + half))
    patch = image[top:bottom, left:right]
    rows = (np.arange(top, top + patch.shape[0])[:, None] - ground_y + 0.005 * height) / (0.04 * height)
    columns = (np.arange(left, left + patch.shape[1]) - center) / half
    dark = np.clip(1.15 - rows**2 - columns**2, 0, 1)[..., None] * 0.45
    patch[:] = patch * (1 - dark)
