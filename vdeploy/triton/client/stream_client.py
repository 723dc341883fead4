"""A client of a Triton server that keeps the windows of streams, so that each frame is sent once."""

from __future__ import annotations

import concurrent.futures
from typing import Any

from vdeploy.core.errors import ClientError, CrowdedError
from vdeploy.triton.client.client import TritonScorer
from vdeploy.triton.client.stream import Stream
from vdeploy.triton.names import DEFAULT_GRPC_PORT, STREAM_MODEL, WINDOW_MODEL
from vdeploy.triton.repository.options import DEFAULT_STREAMS

__all__ = ["StreamClient"]

_NO_ROOM = "streams that are kept at most are live"


class StreamClient(TritonScorer):
    """A `StreamScorer` over gRPC: what a `TritonScorer` does, and streams whose windows the server keeps.

    Args:
        address: `HOST:PORT` or `HOST` of Triton's gRPC interface; of one server, for each keeps its own streams.
        timeout_seconds: How long one request may take.

    Attributes:
        max_streams: Streams that the server keeps at most, those of all clients together.

    Raises:
        ClientError: Nothing answers there, or it keeps no streams.

    Example:
        >>> with StreamClient("localhost:8001") as client, client.open() as stream:  # doctest: +SKIP
        ...     for frame in frames:
        ...         score = stream.push(frame)
        ...         if score.is_full:
        ...             print(score.probability)
    """

    def __init__(self, address: str = f"localhost:{DEFAULT_GRPC_PORT}", *, timeout_seconds: float = 60.0) -> None:
        self._streams: set[Stream] = set()
        super().__init__(address, timeout_seconds=timeout_seconds)
        try:
            self._config_of(STREAM_MODEL)
            self.max_streams = int(self._config_of(WINDOW_MODEL).parameters["max_streams"].string_value)
        except BaseException:
            self.close()
            raise

    def open(self) -> Stream:
        """A new stream with a dedicated connection; the server learns of it with the first frame."""
        past = self.causal.past if self.causal else 0
        stream = Stream(self.address, self.spec, self._dim, past, self._timeout, self._explain, self._streams.discard)
        self._streams.add(stream)
        return stream

    def close(self) -> None:
        """Closes the streams that are open, all at a time as each waits for a server that hangs, and the connection."""
        streams = tuple(self._streams)
        with concurrent.futures.ThreadPoolExecutor(max(1, len(streams))) as crowd:
            list(crowd.map(Stream.close, streams))
        super().close()

    def _explain(self, error: Any, model: str) -> ClientError:
        if _NO_ROOM in str(error.message()):
            return CrowdedError(
                f"{self.address} keeps as many streams as it may",
                "close one, wait for one that went idle, or serve with a higher --streams",
            )
        explained = super()._explain(error, model)
        if model == STREAM_MODEL and "does not serve the model" in explained.message:
            return ClientError(
                f"{self.address} keeps no windows of streams",
                f"serve the bundle with --streams {DEFAULT_STREAMS}, or let the client keep them",
            )
        return explained
