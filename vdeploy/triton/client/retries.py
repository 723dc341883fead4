"""Classify Triton errors that are safe to retry, and retry them within a budget.

A request of a client that keeps its windows itself changes nothing on the server, nor does one that is a whole stream,
so these may always be repeated. Triton answers a request that met a dead
stub with `INTERNAL`, and one that met a model in the middle of a reload with `NOT_FOUND` or `UNAVAILABLE`; the status
alone does not distinguish these from a call that will never succeed.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any, TypeVar

import tritonclient.grpc as triton

__all__ = ["Retries", "is_transient"]

_R = TypeVar("_R")

_ATTEMPTS = 3
_BUDGET = 0.1
_RESERVE = 10.0
_BASE_SECONDS, _LONGEST_SECONDS = 0.1, 2.0

_STATUSES = {"StatusCode.UNAVAILABLE", "StatusCode.DEADLINE_EXCEEDED", "StatusCode.RESOURCE_EXHAUSTED"}
_SIGNS = ("is not healthy", "has no available versions", "is not at ready state", "is not ready", "is not found")


def is_transient(error: Any) -> bool:
    """Whether a request that failed so is worth sending again.

    Args:
        error: A `tritonclient.utils.InferenceServerException`.
    """
    message = str(error.message() or error)
    return str(error.status()) in _STATUSES or any(sign in message for sign in _SIGNS)


class Retries:
    """Sends requests again that failed for a moment, without adding much to the load of a server that has too much.

    A request is sent 3 times at most, and retries are 10 % of the requests at most, as in chapter 21 of "Site
    Reliability Engineering" (Beyer et al., 2016), counted by the token bucket of gRPC's proposal A6; it begins with 10
    tokens, so that a client of few requests may retry too. The pause before retry n is random between 0 and
    ``min(2 s, 0.1 s * 2^n)``: "full jitter" of "Exponential Backoff And Jitter" (Brooker, AWS, 2015).

    Args:
        pause: Sleeps for seconds.
    """

    def __init__(self, pause: Callable[[float], object] = time.sleep) -> None:
        self._tokens = _RESERVE
        self._pause = pause

    def send(self, request: Callable[[float], _R], timeout_seconds: float) -> _R:
        """Send a request, and again where it failed for a moment.

        Args:
            request: Sends it, within so many seconds.
            timeout_seconds: For all attempts and the pauses between them.

        Raises:
            InferenceServerException: The last attempt failed, or the budget or the time is used up.
        """
        deadline = time.monotonic() + timeout_seconds
        self._tokens = min(_RESERVE, self._tokens + _BUDGET)
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return request(deadline - time.monotonic())
            except triton.InferenceServerException as error:
                pause = random.uniform(0, min(_LONGEST_SECONDS, _BASE_SECONDS * 2**attempt))  # noqa: S311  no secret
                late = time.monotonic() + pause >= deadline or str(error.status()) == "StatusCode.DEADLINE_EXCEEDED"
                if late or attempt == _ATTEMPTS or not is_transient(error) or self._tokens < 1:
                    raise
            self._tokens -= 1
            self._pause(pause)
        raise AssertionError("unreachable")
