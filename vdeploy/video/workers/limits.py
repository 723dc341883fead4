"""Limits on decoding one file."""

from __future__ import annotations

import dataclasses
from typing import Any

__all__ = ["DecodingLimits"]

_UNLIMITED_S = 10**9
_UNLIMITED = 10**12
_MEBIBYTE = 1 << 20


@dataclasses.dataclass(frozen=True)
class DecodingLimits:
    """Limits on decoding one file.

    Attributes:
        duration_s: Length of a video.
        pixels: Width times height of a frame.
        frames: Frames of a video.
        cpu_s: Processor time; the kernel kills the process after it.
        wall_s: Elapsed time; whoever waits for the process kills it after it.
        memory_bytes: Address space.
        open_files: File descriptors.
    """

    duration_s: float = 600.0
    pixels: int = 3840 * 2160
    frames: int = 60_000
    cpu_s: int = 60
    wall_s: float = 120.0
    memory_bytes: int = 2048 * _MEBIBYTE
    open_files: int = 32

    @classmethod
    def for_own_files(cls) -> DecodingLimits:
        """Limits for files of the user who runs this program: on memory alone."""
        return cls(
            duration_s=float(_UNLIMITED_S),
            pixels=_UNLIMITED,
            frames=_UNLIMITED,
            cpu_s=_UNLIMITED_S,
            wall_s=float(_UNLIMITED_S),
            memory_bytes=8192 * _MEBIBYTE,
        )

    def for_camera(self) -> DecodingLimits:
        """The same limits without those on time, as a camera has no end."""
        return dataclasses.replace(self, cpu_s=_UNLIMITED_S, wall_s=float(_UNLIMITED_S))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready fields."""
        return dataclasses.asdict(self)
