"""What every runtime can do."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Runtime", "available_cores"]


class Runtime(Protocol):
    """One loaded artifact."""

    def infer(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[np.float32]]:
        """Runs the artifact.

        Args:
            inputs: Arrays by input name, as the manifest's tensors say.

        Returns:
            Arrays by output name.
        """


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))
