"""Features that stay on the disk, in shards, and are read row by row where they are wanted."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vdeploy.core.errors import FeatureStoreError

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["ShardedFeatures"]


class ShardedFeatures:
    """Rows of several NPY files as if they were one array.

    A shard is mapped into memory only while its rows are copied, once for all the rows that are asked for and in the
    order in which they lie there.

    Args:
        shards: NPY files with ``float16[n, ...]`` each, alike but for n, for example those of a feature store.
        places: Shard and row of each clip, ``int64[N, 2]``, or of each of its V views, ``int64[N, V, 2]``; all rows of
            all shards in turn if left out.

    Raises:
        FeatureStoreError: A shard cannot be read, or the shards do not fit together.
    """

    def __init__(self, shards: Sequence[Path], places: npt.NDArray[np.int64] | None = None) -> None:
        self._shards = list(shards)
        shapes = [self._open(shard).shape for shard in self._shards]
        if len({shape[1:] for shape in shapes}) != 1:
            raise FeatureStoreError(f"the shards of {self._shards} differ in shape", "make them with the same settings")
        if places is None:
            rows = [np.arange(shape[0]) for shape in shapes]
            numbers = np.repeat(np.arange(len(shapes)), [shape[0] for shape in shapes])
            places = np.stack([numbers, np.concatenate(rows)], axis=1)
        self._places = places
        self._row_shape = shapes[0][1:]
        self.shape: tuple[int, ...] = (*places.shape[:-1], *self._row_shape)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, rows: Any) -> npt.NDArray[np.float16]:
        """Reads clips.

        Args:
            rows: A slice, or row numbers in any order.

        Returns:
            ``float16[n, ...]``, or ``float16[n, V, ...]``.
        """
        chosen = self._places[rows]
        places = chosen.reshape(-1, 2)
        order = np.lexsort((places[:, 1], places[:, 0]))
        result = np.empty((len(places), *self._row_shape), np.float16)
        bounds = np.searchsorted(places[order, 0], np.arange(len(self._shards) + 1))
        for shard, (first, last) in zip(self._shards, itertools.pairwise(bounds), strict=True):
            if first < last:
                here = order[first:last]
                result[here] = self._open(shard)[places[here, 1]]
        features: npt.NDArray[np.float16] = result.reshape(*chosen.shape[:-1], *self._row_shape)
        return features

    def select(self, rows: npt.NDArray[np.int64]) -> ShardedFeatures:
        """Some of the clips, still on the disk."""
        return ShardedFeatures(self._shards, self._places[rows])

    def joined(self, other: ShardedFeatures) -> ShardedFeatures:
        """These clips and then others of the same shape, still on the disk."""
        further = np.add(other._places, (len(self._shards), 0))
        return ShardedFeatures([*self._shards, *other._shards], np.concatenate([self._places, further]))

    @staticmethod
    def _open(shard: Path) -> npt.NDArray[np.float16]:
        try:
            features: npt.NDArray[np.float16] = np.load(shard, mmap_mode="r")
        except (OSError, ValueError) as error:
            raise FeatureStoreError(f"{shard} cannot be read ({error})", "extract the features again") from error
        return features
