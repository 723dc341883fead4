"""Rows of features: in memory, or mapped from the disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["FeatureRows"]


class FeatureRows(Protocol):
    """Features of clips: a NumPy array, or `vdeploy.features.memory_mapped.ShardedFeatures`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, t, F), or (N, V, t, F) with several views of each clip."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any) -> npt.NDArray[np.float16]: ...
