"""What the gateway says of each request to a tracer; without one, the client's trace context goes on to Triton."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from vdeploy.core.trace_context import TRACEPARENT, trace_id_of

__all__ = ["NO_TRACE", "Trace", "Tracing"]


class Trace:
    """The trace of one request, of which nothing is recorded here.

    Args:
        traceparent: The header of the request.

    Attributes:
        id: Trace id, empty without a trace.
        traceparent: Header for requests that are sent on its behalf, empty without a trace.
    """

    def __init__(self, traceparent: str = "") -> None:
        self.id = trace_id_of(traceparent)
        self.traceparent = traceparent if self.id else ""

    @contextlib.contextmanager
    def span(self, name: str) -> Iterator[None]:  # noqa: ARG002  for those that record
        """Record the block as a part of the request."""
        yield

    def end(self, method: str, route: str, status: int) -> None:
        """The request has been answered."""


NO_TRACE = Trace()


class Tracing:
    """Traces requests by the client's trace context alone: it is logged and passed on."""

    def begin(self, traceparent: str) -> Trace:
        """Begin the trace of a request, as a part of the client's if it has one.

        Args:
            traceparent: The header of the request, empty if it has none.
        """
        return Trace(traceparent)

    @contextlib.contextmanager
    def batch(self, traces: Sequence[Trace]) -> Iterator[None]:
        """Send the requests in the block on behalf of several traces; servers are told the first.

        Args:
            traces: Those of the clips of a batch.
        """
        token = TRACEPARENT.set(next((trace.traceparent for trace in traces if trace.traceparent), ""))
        try:
            yield
        finally:
            TRACEPARENT.reset(token)

    def close(self) -> None:
        """Send what has not been sent."""
