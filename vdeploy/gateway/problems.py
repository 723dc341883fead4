"""Answers of 400 and above, in one shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["Problem", "busy", "too_large", "too_many_requests", "unavailable"]


class Problem(Exception):  # noqa: N818  an answer, not a failure
    """Why a request is refused.

    Args:
        status: HTTP status: 4xx for what the client can correct, 503 for temporary failures.
        code: A name for programs, in snake case, which later versions keep.
        message: What was wrong, for people.
        hint: How to correct it.
        headers: Further headers of the answer.
    """

    def __init__(
        self, status: int, code: str, message: str, hint: str = "", *, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.hint = hint
        self.headers = dict(headers or {})

    def to_dict(self, request_id: str) -> dict[str, Any]:
        """The JSON body of the answer."""
        return {
            "error": {"code": self.code, "message": self.message, "hint": self.hint, "request_id": request_id},
        }


def busy(message: str, *, retry_after_s: int = 1) -> Problem:
    """503: the gateway is at its limit; the same request may be sent again."""
    return Problem(
        503, "busy", message, f"send it again after {retry_after_s} s", headers={"Retry-After": str(retry_after_s)}
    )


def too_many_requests(message: str, retry_after_s: int = 1) -> Problem:
    """429: one key asks for more than its share; others are still served."""
    headers = {"Retry-After": str(retry_after_s), "Connection": "close"}
    return Problem(429, "too_many_requests", message, "send fewer at a time", headers=headers)


def unavailable(code: str, message: str, *, retry_after_s: int = 5) -> Problem:
    """503: a part of the service is failing."""
    hint = "send it again later; if it persists, give the request id to the operator"
    return Problem(503, code, message, hint, headers={"Retry-After": str(retry_after_s)})


def too_large(limit_bytes: int) -> Problem:
    """413: the body is over the limit."""
    return Problem(
        413,
        "upload_too_large",
        f"the body is larger than {limit_bytes} bytes",
        "send a shorter or smaller video",
        headers={"Connection": "close"},
    )
