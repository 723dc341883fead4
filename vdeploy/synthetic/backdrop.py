"""The scene of a clip: a room, a street, a park or a hall with random colours and contents."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from vdeploy.synthetic.figure import Color, Image, hsv, shade

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["paint_backdrop"]


def paint_backdrop(rng: np.random.Generator, width: int, height: int, horizon: int) -> Image:
    """Paints a scene.

    Args:
        rng: Random generator.
        width: Pixels.
        height: Pixels.
        horizon: Row of the upper edge of the ground.

    Returns:
        BGR, ``uint8[height, width, 3]``, slightly out of focus.
    """
    image = np.zeros((height, width, 3), np.uint8)
    places = (_room, _street, _park, _hall)
    places[rng.integers(len(places))](rng, image, horizon)
    return _textured(rng, image)


def _room(rng: np.random.Generator, image: Image, horizon: int) -> None:
    height, width = image.shape[:2]
    wall = hsv(rng.random(), rng.uniform(0.03, 0.35), rng.uniform(0.4, 0.9))
    floor = hsv(rng.uniform(0.04, 0.12), rng.uniform(0.1, 0.5), rng.uniform(0.25, 0.7))
    _gradient(image, 0, horizon, shade(wall, 1.05), shade(wall, 0.8))
    _gradient(image, horizon, height, shade(floor, 0.8), floor)
    _rays(image, horizon, shade(floor, 0.75), int(rng.integers(8, 18)))
    for _ in range(int(rng.integers(1, 4))):
        _panel(rng, image, horizon, wall)
    cv2.rectangle(image, (0, horizon - height // 50), (width, horizon), shade(wall, 0.6), cv2.FILLED)


def _panel(rng: np.random.Generator, image: Image, horizon: int, wall: Color) -> None:
    """Draws a window, a picture or a door on the wall."""
    width = image.shape[1]
    left, across = int(rng.uniform(0, 0.85) * width), int(rng.uniform(0.1, 0.28) * width)
    top = int(rng.uniform(0.08, 0.3) * horizon)
    bottom = horizon if rng.random() < 0.35 else int(rng.uniform(0.5, 0.8) * horizon)
    filling = hsv(rng.random(), rng.uniform(0.1, 0.6), rng.uniform(0.3, 0.95))
    edge = max(2, width // 120)
    cv2.rectangle(image, (left - edge, top - edge), (left + across + edge, bottom + edge), shade(wall, 0.5), cv2.FILLED)
    cv2.rectangle(image, (left, top), (left + across, bottom), filling, cv2.FILLED)
    if rng.random() < 0.5:
        middle = left + across // 2
        cv2.line(image, (middle, top), (middle, bottom), shade(wall, 0.5), edge)
    else:
        center = (left + across // 2, (top + bottom) // 2)
        cv2.circle(image, center, across // 4, shade(filling, 0.6), cv2.FILLED, cv2.LINE_AA)


def _street(rng: np.random.Generator, image: Image, horizon: int) -> None:
    height, width = image.shape[:2]
    _sky(rng, image, horizon)
    left = -int(rng.uniform(0, 0.2) * width)
    while left < width:
        across = int(rng.uniform(0.15, 0.4) * width)
        _house(rng, image, range(left, left + across), range(int(rng.uniform(0.02, 0.45) * horizon), horizon))
        left += across
    pavement = hsv(rng.random(), rng.uniform(0.0, 0.12), rng.uniform(0.3, 0.7))
    _gradient(image, horizon, height, shade(pavement, 0.85), pavement)
    kerb = horizon + int(rng.uniform(0.1, 0.3) * (height - horizon))
    cv2.rectangle(image, (0, kerb), (width, kerb + height // 60), shade(pavement, 1.25), cv2.FILLED)
    _rays(image, horizon, shade(pavement, 0.85), int(rng.integers(4, 10)))
    if rng.random() < 0.6:
        post, thick = int(rng.uniform(0.05, 0.95) * width), max(3, width // 90)
        cv2.rectangle(image, (post, int(0.1 * horizon)), (post + thick, kerb), (50, 50, 50), cv2.FILLED)


def _house(rng: np.random.Generator, image: Image, columns: range, rows: range) -> None:
    wall = hsv(rng.uniform(0.0, 0.15) + rng.integers(2) * 0.5, rng.uniform(0.05, 0.5), rng.uniform(0.25, 0.8))
    cv2.rectangle(image, (columns.start, rows.start), (columns.stop, rows.stop), wall, cv2.FILLED)
    pane = hsv(0.58, rng.uniform(0.1, 0.5), rng.uniform(0.2, 0.95))
    step = int(image.shape[1] * rng.uniform(0.045, 0.08))
    for y in range(rows.start + step // 2, rows.stop - step, int(step * 1.3)):
        for x in range(columns.start + step // 3, columns.stop - step // 2, step):
            cv2.rectangle(image, (x, y), (x + step // 2, y + int(step * 0.75)), pane, cv2.FILLED)


def _park(rng: np.random.Generator, image: Image, horizon: int) -> None:
    height, width = image.shape[:2]
    _sky(rng, image, horizon)
    green = hsv(rng.uniform(0.2, 0.36), rng.uniform(0.3, 0.7), rng.uniform(0.3, 0.7))
    columns = np.arange(width)
    ridge = horizon - height * 0.05 * (1.5 + np.sin(columns / width * rng.uniform(4, 12) + rng.uniform(0, 6)))
    hill = np.concatenate([np.stack([columns, ridge], axis=1), [[width, horizon], [0, horizon]]])
    cv2.fillPoly(image, [hill.astype(np.int32)], shade(green, 0.6))
    _gradient(image, horizon, height, shade(green, 0.8), green)
    for _ in range(int(rng.integers(2, 6))):
        _tree(rng, image, int(rng.uniform(0, 1) * width), horizon, green)
    if rng.random() < 0.5:
        path = hsv(0.09, rng.uniform(0.1, 0.35), rng.uniform(0.45, 0.8))
        top = horizon + int(rng.uniform(0.2, 0.5) * (height - horizon))
        cv2.rectangle(image, (0, top), (width, top + int(0.35 * (height - horizon))), path, cv2.FILLED)


def _tree(rng: np.random.Generator, image: Image, x: int, horizon: int, green: Color) -> None:
    size = rng.uniform(0.12, 0.3) * horizon
    crown = horizon - 2.2 * size
    thick = max(2, int(size * 0.13))
    cv2.rectangle(image, (x - thick, int(crown)), (x + thick, horizon + thick), hsv(0.07, 0.5, 0.3), cv2.FILLED)
    for _ in range(9):
        center = (int(x + rng.normal(0, 0.5) * size), int(crown + rng.normal(0, 0.4) * size))
        tone = shade(green, rng.uniform(0.55, 1.05))
        cv2.circle(image, center, int(size * rng.uniform(0.4, 0.7)), tone, cv2.FILLED, cv2.LINE_AA)


def _hall(rng: np.random.Generator, image: Image, horizon: int) -> None:
    height, width = image.shape[:2]
    wall = hsv(rng.random(), rng.uniform(0.0, 0.25), rng.uniform(0.3, 0.85))
    floor = hsv(rng.random(), rng.uniform(0.0, 0.3), rng.uniform(0.3, 0.8))
    _gradient(image, 0, horizon, shade(wall, 1.0), shade(wall, 0.85))
    _gradient(image, horizon, height, shade(floor, 0.7), shade(floor, 1.05))
    inset, top = int(rng.uniform(0.15, 0.3) * width), int(rng.uniform(0.15, 0.35) * horizon)
    sides = [[(0, 0), (inset, top), (inset, horizon), (0, horizon + inset)]]
    sides.append([(width - x, y) for x, y in sides[0]])
    for side, light in zip(sides, (0.65, 0.8), strict=True):
        cv2.fillPoly(image, [np.array(side, np.int32)], shade(wall, light))
    for pillar in np.linspace(inset, width - inset, int(rng.integers(3, 7))).astype(int):
        cv2.line(image, (int(pillar), top), (int(pillar), horizon), shade(wall, 0.7), max(2, width // 130))
    row, gap = float(horizon), (height - horizon) * rng.uniform(0.04, 0.08)
    _rays(image, horizon, shade(floor, 0.8), int(rng.integers(8, 16)))
    while row < height:
        cv2.line(image, (0, int(row)), (width, int(row)), shade(floor, 0.8), 1, cv2.LINE_AA)
        row, gap = row + gap, gap * 1.45


def _sky(rng: np.random.Generator, image: Image, horizon: int) -> None:
    tone = hsv(rng.uniform(0.52, 0.64), rng.uniform(0.05, 0.55), rng.uniform(0.5, 0.95))
    _gradient(image, 0, horizon, tone, shade(tone, 1.2))


def _gradient(image: Image, top: int, bottom: int, first: Color, last: Color) -> None:
    share = np.linspace(0, 1, bottom - top)[:, None, None]
    image[top:bottom] = np.array(first) * (1 - share) + np.array(last) * share


def _rays(image: Image, horizon: int, color: Color, count: int) -> None:
    """Draws lines on the ground that converge above the horizon."""
    height, width = image.shape[:2]
    for x in np.linspace(-width, 2 * width, 3 * count):
        start = (int(width / 2 + (x - width / 2) * 0.45), horizon)
        cv2.line(image, start, (int(x), height), color, 1, cv2.LINE_AA)


def _textured(rng: np.random.Generator, image: Image) -> Image:
    """Adds uneven light, fine grain and blur."""
    height, width = image.shape[:2]
    coarse = cv2.resize(rng.normal(1, 0.07, (4, 6)), (width, height), interpolation=cv2.INTER_CUBIC)
    grain = rng.normal(0, 5, (height, width))
    lit = image * coarse[..., None] + grain[..., None]
    blurred: NDArray[np.float64] = cv2.GaussianBlur(lit, (0, 0), sigmaX=rng.uniform(0.8, 2.2))
    return np.clip(blurred, 0, 255).astype(np.uint8)
