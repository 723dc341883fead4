"""The W3C trace context of what is being done, which clients pass on to servers."""

from __future__ import annotations

import contextvars
import re

from vdeploy.core.errors import UserError

__all__ = ["TRACEPARENT", "trace_id_of", "traces_url"]

TRACEPARENT: contextvars.ContextVar[str] = contextvars.ContextVar("traceparent", default="")
"""Value of the header ``traceparent`` for requests that are sent now; empty for none."""

_PATTERN = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def trace_id_of(traceparent: str) -> str:
    """The trace id in a header ``traceparent``, 32 hexadecimal digits; empty where the header is none.

    The format is that of version 00 of W3C's recommendation "Trace Context" (2021), section 3.2.
    """
    found = _PATTERN.fullmatch(traceparent)
    return found[1] if found else ""


def traces_url(endpoint: str, given_as: str) -> str:
    """Where a collector's OTLP/HTTP receiver takes traces.

    Args:
        endpoint: Its address, such as ``http://localhost:4318``.
        given_as: The option or variable that holds it.

    Raises:
        UserError: It is no address.
    """
    if not re.match(r"https?://[^/\s,]", endpoint) or re.search(r"[\s,]", endpoint):
        raise UserError(f"{given_as} {endpoint} is no HTTP address", "give one such as http://localhost:4318")
    return f"{endpoint.rstrip('/')}/v1/traces"
