"""Middleware for every request: an id, a log line, security headers, limits on bodies, and an answer to every error."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from vdeploy.gateway.logs import log_event
from vdeploy.gateway.pacing import PACED_STATUSES, Pace
from vdeploy.gateway.problems import Problem, unavailable
from vdeploy.gateway.traces import NO_TRACE

if TYPE_CHECKING:
    from collections.abc import Collection

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from vdeploy.gateway.metrics import Metrics
    from vdeploy.gateway.traces import Tracing

__all__ = ["REQUEST_ID", "Envelope", "SmallBodies", "problem_response"]

REQUEST_ID = "X-Request-ID"
_GIVEN_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_BODY_BYTES = 65_536
_BODY_SECONDS = 10.0
_HEALTH_PATHS = {"/healthz", "/readyz"}
_UNTRACED = {"/healthz", "/readyz", "/metrics"}
_CLOSE = {"Connection": "close"}
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}


class Envelope:
    """ASGI middleware around the whole application.

    Args:
        app: The application.
        metrics: Where requests are counted.
        tracing: Records requests.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, tracing: Tracing) -> None:
        self._app = app
        self._metrics = metrics
        self._pace = Pace()
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; see the ASGI specification."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        received = Headers(scope=scope)
        given = received.get(REQUEST_ID.lower(), "")
        request_id = given if _GIVEN_ID.fullmatch(given) else secrets.token_hex(16)
        scope.setdefault("state", {}).update(request_id=request_id, started=started)
        is_watched = scope["path"] not in _UNTRACED
        trace = self._tracing.begin(received.get("traceparent", "")) if is_watched else NO_TRACE
        scope["state"]["trace"] = trace
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if status in PACED_STATUSES or scope["path"] in _HEALTH_PATHS:
                    await asyncio.sleep(self._pace.delay_s())
                headers = MutableHeaders(scope=message)
                headers[REQUEST_ID] = request_id
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except Exception as error:
            self._metrics.failures.inc()
            log_event("unexpected_error", level=logging.ERROR, error=error, request_id=request_id)
            if not status:
                problem = unavailable("internal_error", "an unexpected error occurred")
                await problem_response(problem, request_id)(scope, receive, send_with_headers)
        finally:
            self._note(scope, status, time.perf_counter() - started)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "unknown")
        method = scope["method"] if scope["method"] in _METHODS else "OTHER"
        self._metrics.requests.labels(route, method, str(status)).inc()
        self._metrics.seconds.labels(route).observe(seconds)
        state = scope["state"]
        state["trace"].end(method, route, status)
        log_event(
            "request",
            request_id=state["request_id"],
            method=method,
            route=route,
            status=status,
            duration_ms=round(seconds * 1000, 1),
            client=state.get("client"),
            **({"trace_id": state["trace"].id} if state["trace"].id else {}),
        )


class SmallBodies:
    """ASGI middleware that bounds the bodies that FastAPI reads into memory, in size and in time.

    Args:
        app: The application.
        uploads: Paths of the routes that read their bodies themselves.
    """

    def __init__(self, app: ASGIApp, uploads: Collection[str]) -> None:
        self._app = app
        self._uploads = frozenset(uploads)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; see the ASGI specification."""
        if scope["type"] != "http" or scope["path"] in self._uploads:
            await self._app(scope, receive, send)
            return
        size, is_complete = 0, False
        deadline = time.monotonic() + _BODY_SECONDS

        async def receive_bounded() -> Message:
            nonlocal size, is_complete
            if is_complete:
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), deadline - time.monotonic())
            except asyncio.TimeoutError:
                raise HTTPException(408, f"the body did not arrive within {_BODY_SECONDS:g} s", _CLOSE) from None
            is_complete = not message.get("more_body", False)
            size += len(message.get("body", b""))
            if size > _BODY_BYTES:
                raise HTTPException(413, f"the body is larger than {_BODY_BYTES} bytes", _CLOSE)
            return message

        await self._app(scope, receive_bounded, send)


def problem_response(problem: Problem, request_id: str) -> JSONResponse:
    """The answer for a problem."""
    return JSONResponse(problem.to_dict(request_id), problem.status, problem.headers)
