"""Limits on requests and streams."""

from __future__ import annotations

import dataclasses

from vdeploy.video.workers.limits import DecodingLimits

__all__ = ["MIN_STRIDE_S", "MIN_WINDOW_S", "Limits"]

MIN_WINDOW_S = 0.2
"""Shortest window of a timeline, in seconds."""

MIN_STRIDE_S = 0.04
"""Shortest distance from window to window, in seconds."""

_MEBIBYTE = 1 << 20


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
    decoding: DecodingLimits = dataclasses.field(default_factory=DecodingLimits)
