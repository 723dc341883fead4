"""Classify Triton errors that are safe to retry.

A request of a client that keeps its windows itself changes nothing on the server, nor does one that is a whole stream,
so these may always be repeated. Triton answers a request that met a dead
stub with `INTERNAL`, and one that met a model in the middle of a reload with `NOT_FOUND` or `UNAVAILABLE`; the status
alone does not distinguish these from a call that will never succeed.
"""

from __future__ import annotations

from typing import Any

__all__ = ["is_transient"]

_STATUSES = {"StatusCode.UNAVAILABLE", "StatusCode.DEADLINE_EXCEEDED", "StatusCode.RESOURCE_EXHAUSTED"}
_SIGNS = ("is not healthy", "has no available versions", "is not at ready state", "is not ready", "is not found")


def is_transient(error: Any) -> bool:
    """Whether a request that failed so is worth sending again.

    Args:
        error: A `tritonclient.utils.InferenceServerException`.
    """
    message = str(error.message() or error)
    return str(error.status()) in _STATUSES or any(sign in message for sign in _SIGNS)
