"""The benchmark of the motion crop draws what it says, and the crop finds what moves."""

from __future__ import annotations

import numpy as np

from benchmarks.motion_crop import KINDS, MOVER, SIZE, draw, look


def test_the_mover_is_where_the_benchmark_says() -> None:
    still, _ = draw(KINDS["nothing moves"], 6, 0)
    clip, (left, top, right, bottom) = draw(KINDS["something moves"], 6, 0)
    assert clip.shape == (6, SIZE, SIZE, 3)
    assert np.abs(np.diff(still, axis=0)).max() < 30  # noise
    moved = np.abs(np.diff(clip, axis=0)).max(axis=(0, 3)) > 60
    rows, columns = np.nonzero(moved)
    assert top * SIZE <= rows.min() <= rows.max() < bottom * SIZE
    assert left * SIZE <= columns.min() <= columns.max() < right * SIZE
    assert MOVER / SIZE < right - left < 0.5


def test_the_crop_sees_all_of_a_still_scene_and_the_mover_of_another() -> None:
    assert look(KINDS["nothing moves"], 6)["least_side"] > 0.99
    moving = look(KINDS["something moves"], 6)
    assert moving["side"] < 0.7
    assert moving["mover_inside"] > 0.6
