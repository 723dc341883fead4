"""Limits on requests, streams and decoding."""

from __future__ import annotations

import dataclasses
from typing import Any

__all__ = ["MIN_STRIDE_S", "MIN_WINDOW_S", "DecodingLimits", "Limits"]

MIN_WINDOW_S = 0.2
"""Shortest window of a timeline, in seconds."""

MIN_STRIDE_S = 0.04
"""Shortest distance from window to window, in seconds."""

_UNLIMITED_S = 10**9
_MEBIBYTE = 1 << 20


@dataclasses.dataclass(frozen=True)
class DecodingLimits:
    """Limits on decoding one file.

    Attributes:
        duration_s: Length of a video.
        pixels: Width times height of a frame.
        frames: Frames of a video.
        cpu_s: Processor time; the kernel kills the process after it.
        wall_s: Elapsed time; the gateway kills the process after it.
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

    def for_camera(self) -> DecodingLimits:
        """The same limits without those on time, as a camera has no end."""
        return dataclasses.replace(self, cpu_s=_UNLIMITED_S, wall_s=float(_UNLIMITED_S))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready fields."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class Limits:
    """What the gateway accepts.

    Attributes:
        upload_bytes: Size of an upload, counted while it arrives.
        upload_s: Time that an upload may take.
        requests: Concurrent requests; further ones are refused with 503.
        requests_per_key: Of these, requests with the same API key.
        queue: Clips that may wait for the scorer.
        batch: Largest number of clips in a batch.
        decoders: Processes that decode the videos of requests.
        stream_decoders: Further processes that decode the videos of streams.
        streams: Concurrent streams; a deleted one counts until its thread has ended.
        streams_per_key: Of these, streams of the same API key.
        stream_idle_s: Seconds without a reader after which the stream of a camera is cancelled.
        readers: Concurrent readers of events.
        readers_per_key: Of these, readers with the same API key.
        drain_s: Seconds that requests in progress may take after SIGTERM.
        decoding: Limits on decoding one file.
    """

    upload_bytes: int = 200 * _MEBIBYTE
    upload_s: float = 120.0
    requests: int = 32
    requests_per_key: int = 16
    queue: int = 64
    batch: int = 8
    decoders: int = 2
    stream_decoders: int = 2
    streams: int = 8
    streams_per_key: int = 4
    stream_idle_s: float = 600.0
    readers: int = 128
    readers_per_key: int = 32
    drain_s: float = 20.0
    decoding: DecodingLimits = DecodingLimits()
