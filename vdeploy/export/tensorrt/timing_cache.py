"""What TensorRT measured in earlier builds on this GPU, kept for the next one.

Only `tensorrt` measures kernels while it builds. `tensorrt_rtx` compiles for a GPU that need not be there; its timing
cache does nothing.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Literal

from vdeploy.core.files import atomic_write, cache_dir
from vdeploy.core.progress import say
from vdeploy.inference.runtimes.tensorrt_library import Library

__all__ = ["TimingCache", "TimingCacheUse", "timing_cache_file"]

TimingCacheUse = Literal["none", "filled", "hit"]
"""No timing cache; measured and kept; nothing had to be measured."""


def timing_cache_file(library: Library) -> Path:
    """The file in vdeploy's cache for a version of a library."""
    return cache_dir() / "tensorrt" / f"timing-{library.name}-{library.version}.cache"


class TimingCache:
    """A timing cache that is read before a build and written after it.

    TensorRT itself refuses one of another GPU or version; the build then starts with an empty one.

    Args:
        library: The library.
        config: Its builder's configuration.
        path: The file; ``None`` for the one in vdeploy's cache.
    """

    def __init__(self, library: Library, config: Any, path: Path | None = None) -> None:
        self._config = config
        self._path = path or timing_cache_file(library)
        self._used = library.name == "tensorrt"
        self._before = b""
        if not self._used:
            return
        with contextlib.suppress(OSError):
            self._before = self._path.read_bytes()
        cache = config.create_timing_cache(self._before)
        if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
            self._before = b""
            config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)

    def keep(self) -> TimingCacheUse:
        """Writes what the build measured; a cache that cannot be written costs time, not the engine."""
        if not self._used:
            return "none"
        after = bytes(memoryview(self._config.get_timing_cache().serialize()))
        if after == self._before:
            return "hit"
        try:
            with atomic_write(self._path) as file:
                file.write(after)
        except OSError as error:
            say(f"the timing cache {self._path} was not kept ({error.strerror or error}): the next build is as slow")
        return "filled"
