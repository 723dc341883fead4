"""Transforms of pixels: each does what it says, as much as its strength allows."""

from __future__ import annotations

import cv2
import numpy as np

from vdeploy.video.pixel_transforms import PIXEL_TRANSFORMS


def scene(frames: int = 4, size: int = 48) -> np.ndarray:
    """Smooth colours that are the same in all frames."""
    picture = cv2.resize(
        np.random.default_rng(0).integers(40, 216, (6, 6, 3), dtype=np.uint8),
        (size, size),
        interpolation=cv2.INTER_CUBIC,
    )
    return np.stack([picture] * frames)


def many(name: str, strength: float, frames: np.ndarray, count: int = 200) -> list[np.ndarray]:
    return [PIXEL_TRANSFORMS[name](frames, strength, np.random.default_rng(seed)) for seed in range(count)]


def test_a_crop_shows_a_part_of_at_least_the_share_that_is_left() -> None:
    columns = np.broadcast_to(np.arange(100, dtype=np.uint8)[None, None, :, None], (1, 100, 100, 3)).copy()
    spans = [(int(view[..., 0].max()) - int(view[..., 0].min()) + 1) / 100 for view in many("crop", 0.4, columns)]
    assert 0.6 <= min(spans) < 0.65
    assert 0.95 < max(spans) <= 1
    lefts = {int(view[0, 0, 0, 0]) for view in many("crop", 0.4, columns)}
    assert {0} < lefts <= set(range(41))


def test_low_light_is_a_power_of_at_most_one_more_than_the_strength() -> None:
    values = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    for view in many("low_light", 1.5, values, 50):
        assert (view <= values).all()
        assert (view >= np.floor(255 * (values / 255) ** 2.5)).all()
        assert (view[0, 0, 0, 0], view[0, 15, 15, 0]) == (0, 255)


def test_color_keeps_grey_grey_and_its_brightness_within_the_factors() -> None:
    grey = np.full((2, 4, 4, 3), 100, np.uint8)
    values = np.array([view[0, 0, 0] for view in many("color", 0.2, grey)], int)
    assert (values.max(axis=1) - values.min(axis=1) <= 1).all()  # rounding
    assert 80 <= values.min() < 84
    assert 116 < values.max() <= 120


def test_color_changes_saturation_and_contrast() -> None:
    spread = [np.ptp(view.astype(int), axis=3).mean() for view in many("color", 0.5, scene())]
    assert min(spread) < 0.8 * np.ptp(scene().astype(int), axis=3).mean() < max(spread)
    black_and_white = np.array((60, 180), np.uint8).reshape(1, 1, 2, 1).repeat(3, axis=3)
    ratios = [int(view[0, 0, 1, 0]) - int(view[0, 0, 0, 0]) for view in many("color", 0.5, black_and_white)]
    assert 29 <= min(ratios) < 60
    assert max(ratios) > 150


def test_blur_and_compression_take_detail_away_and_noise_adds_what_its_strength_says() -> None:
    checks = (np.indices((32, 32)).sum(axis=0) % 2 * 255).astype(np.uint8)[None, ..., None].repeat(3, axis=3)
    assert min(view.std() for view in many("blur", 3.0, checks, 20)) < 5 < checks.std()
    grey = np.full((6, 48, 48, 3), 128, np.uint8)
    deviations = [(view.astype(float) - 128).std() for view in many("noise", 12.0, grey, 40)]
    assert 0.2 < min(deviations) < 3
    assert 10 < max(deviations) < 12.2
    noisy = many("noise", 12.0, grey, 1)[0]
    assert not np.array_equal(noisy[0], noisy[1])
    photo = scene(1)
    worst = [max(np.abs(v.astype(int) - photo).mean() for v in many("compression", s, photo, 40)) for s in (0.3, 1.0)]
    assert 0 < 4 * worst[0] < worst[1]
    red = np.zeros((1, 16, 16, 3), np.uint8) + np.array((200, 30, 30), np.uint8)
    assert np.abs(many("compression", 0.2, red, 1)[0].astype(int) - red).max() < 12
