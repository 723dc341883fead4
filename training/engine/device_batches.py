"""Features on their way to the device: all of them at once where they fit, else portion after portion."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from training.engine.epoch_plan import EpochPlan, FeatureSplit
from vdeploy.core.lazy_imports import load_tensorflow
from vdeploy.models.normalization import normalize

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["Tables"]

_PIECE_BYTES = 1 << 25
"""Features are normalised in pieces of this size, so that their float32 form never takes much memory."""

_PORTIONS_ALIVE = 4
"""Of streamed features: one in use, the next one ready, and one more being read and normalised."""


class Tables:
    """Turns a split's features into tables ``[clips * V * T, F]`` that the compiled steps gather from.

    A value takes two bytes in a table: with a compute type of two bytes it is normalised and converted when the table
    is made, for that is what enters the first matrix product; with float32 it stays what it was and is normalised in
    the step. If all features fit into the limit, there is one table for the whole training. Else a thread gathers the
    clips of the next steps from wherever they lie while the present steps are computed, so that the order stays the
    exact permutation of the plan and the numbers are the same.

    Args:
        split: The features.
        batch: Clips of a global batch.
        dtype: Compute type.
        limit: Bytes that features may take.
        normalized: Whether features are normalised at all.
    """

    def __init__(self, split: FeatureSplit, batch: int, dtype: str, limit: float, *, normalized: bool = True) -> None:
        self._split, self._dtype = split, dtype
        self.resident = split.nbytes <= limit
        clip_bytes = split.nbytes / max(len(split.labels), 1)
        self.portion_steps = max(int(limit / _PORTIONS_ALIVE / clip_bytes / batch), 1)
        self._whole: Any = None
        self._compiled = _converter(dtype, normalized=normalized)

    def of(self, plan: EpochPlan) -> Iterator[tuple[Any, EpochPlan]]:
        """Goes through an epoch.

        Args:
            plan: Its steps.

        Yields:
            A table, and the steps to take with it; their ``rows`` are rows of the table's clips.
        """
        if self.resident:
            if self._whole is None:
                self._whole = self._table(slice(None))
            yield self._whole, plan
            return
        starts = range(0, len(plan.rows), self.portion_steps)
        parts = [plan.part(slice(start, start + self.portion_steps)) for start in starts]
        with ThreadPoolExecutor(max_workers=1) as thread:
            coming = thread.submit(self._table, parts[0].rows.ravel())
            for index, part in enumerate(parts):
                table = coming.result()
                if index + 1 < len(parts):
                    coming = thread.submit(self._table, parts[index + 1].rows.ravel())
                yield table, part.renumbered()

    def _table(self, rows: slice | npt.NDArray[np.int64]) -> Any:
        tf: Any = load_tensorflow()
        features = self._split.features[rows]
        dim = features.shape[-1]
        flat = features.reshape(-1, dim)
        if self._dtype == "float32":
            return tf.constant(flat)
        size = max(_PIECE_BYTES // (2 * dim), 1)
        return tf.concat(
            [self._compiled(tf.constant(flat[start : start + size])) for start in range(0, len(flat), size)], axis=0
        )


@functools.cache
def _converter(dtype: str, *, normalized: bool) -> Any:
    """The compiled normalisation and conversion, one for all trainings of a process: a study has many."""
    tf: Any = load_tensorflow()

    def convert(piece: Any) -> Any:
        return normalize(piece, dtype) if normalized else tf.cast(piece, dtype)

    return tf.function(convert, reduce_retracing=True)
