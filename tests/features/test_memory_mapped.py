"""Features on the disk read like the array that they were made from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vdeploy.core.errors import FeatureStoreError
from vdeploy.features.memory_mapped import ShardedFeatures


@pytest.fixture
def whole(tmp_path: Path) -> np.ndarray:
    features = np.random.default_rng(0).normal(size=(10, 3, 4)).astype(np.float16)
    for name, rows in {"a": slice(0, 4), "b": slice(4, 5), "c": slice(5, 10)}.items():
        np.save(tmp_path / f"{name}.npy", features[rows])
    return features


def test_rows_in_any_order_and_slices(whole: np.ndarray, tmp_path: Path) -> None:
    features = ShardedFeatures([tmp_path / f"{name}.npy" for name in "abc"])
    assert (features.shape, len(features)) == (whole.shape, 10)
    for rows in (slice(None), slice(3, 7), np.array([9, 0, 4, 4, 2]), np.random.default_rng(1).permutation(10)):
        np.testing.assert_array_equal(features[rows], whole[rows])
    assert features[np.array([], np.int64)].shape == (0, 3, 4)


def test_places_choose_clips(whole: np.ndarray, tmp_path: Path) -> None:
    places = np.array([[2, 1], [0, 3], [1, 0]])
    features = ShardedFeatures([tmp_path / f"{name}.npy" for name in "abc"], places)
    np.testing.assert_array_equal(features[:], whole[[6, 3, 4]])


def test_a_missing_and_a_foreign_shard_are_one_clear_line(whole: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", whole[:, :2])
    with pytest.raises(FeatureStoreError, match=r"differ in shape; make them"):
        ShardedFeatures([tmp_path / "a.npy", tmp_path / "d.npy"])
    with pytest.raises(FeatureStoreError, match=r"e\.npy cannot be read"):
        ShardedFeatures([tmp_path / "e.npy"])
