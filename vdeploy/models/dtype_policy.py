"""The type in which Keras layers compute, set for as long as a model is built."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from vdeploy.core.lazy_imports import load_keras

__all__ = ["dtype_policy"]


@contextlib.contextmanager
def dtype_policy(dtype: str) -> Iterator[None]:
    """Let layers that are built inside compute in a type; their weights are float32 in every case.

    Args:
        dtype: ``"float32"``, ``"bfloat16"`` or ``"float16"``.
    """
    config: Any = load_keras().config
    before = config.dtype_policy()
    config.set_dtype_policy("float32" if dtype == "float32" else f"mixed_{dtype}")
    try:
        yield
    finally:
        config.set_dtype_policy(before)
