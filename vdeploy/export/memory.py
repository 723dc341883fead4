"""Memory that is not used goes back to the system: an export is a chain of steps, each with large arrays of its own."""

from __future__ import annotations

import ctypes
import gc
import os

__all__ = ["give_back", "let_tensorflow_give_back"]

_ALLOCATOR = "TF_ONEDNN_USE_SYSTEM_ALLOCATOR"


def let_tensorflow_give_back() -> None:
    """Has TensorFlow take memory for tensors from the system and return it; it would keep all that it ever had.

    The pages of a large tensor are new ones each time then, so this is for processes that do other things as well.
    It only has an effect before TensorFlow computes its first tensor.
    """
    os.environ.setdefault(_ALLOCATOR, "1")


def give_back(*, circles: bool = True) -> None:
    """Returns free memory to the system where the C library can.

    Args:
        circles: Whether to free what only circles of references hold before. That looks at every object there is, which
            takes a tenth of a second or more where TensorFlow is loaded.
    """
    if circles:
        gc.collect()
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
