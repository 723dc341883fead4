"""uvicorn's HTTP connection with limits: bytes, number and time of headers, and connections at a time."""

from __future__ import annotations

import asyncio
import http
import json
import secrets
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from vdeploy.gateway.pacing import Pace
from vdeploy.gateway.problems import Problem

__all__ = ["BoundedConnection"]

MAX_CONNECTIONS = 1024
MAX_HEAD_BYTES = 65_536
MAX_HEADERS = 128
HEAD_SECONDS = 10.0


class BoundedConnection(HttpToolsProtocol):
    """One connection of a client.

    Whatever arrives without being body (request line, headers, chunk extensions, trailers) is bounded, and so is the
    time until the headers are complete. A connection over a limit gets one answer and is closed.
    """

    _pace = Pace()

    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self._without_body = 0
        self._fields = 0
        self._timer: asyncio.TimerHandle | None = None
        self._is_in_request = False
        self._refusal: Problem | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept a connection; see `asyncio.Protocol`."""
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()
            return
        self._timer = self.loop.call_later(HEAD_SECONDS, self._refuse_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection; see `asyncio.Protocol`."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what has arrived; see `asyncio.Protocol`."""
        if self._refusal is not None:
            return
        if not self._is_in_request and self._timer is None:
            self._timer = self.loop.call_later(HEAD_SECONDS, self._refuse_slow)
        self._without_body += len(data)
        super().data_received(data)
        if self._without_body > MAX_HEAD_BYTES:
            self._refuse(_too_large())

    def on_message_begin(self) -> None:
        """Begin a request; see `httptools.HttpRequestParser`."""
        self._fields = 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header or a trailer; see `httptools.HttpRequestParser`."""
        self._fields += 1
        if self._fields > MAX_HEADERS or len(name) + len(value) > MAX_HEAD_BYTES:
            self._refusal = _too_large()
            raise ValueError(self._refusal.message)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin to answer; see `httptools.HttpRequestParser`."""
        if sum(len(name) + len(value) for name, value in self.headers) + len(self.url) > MAX_HEAD_BYTES:
            self._refusal = _too_large()
            raise ValueError(self._refusal.message)
        self._stop_timer()
        self._without_body, self._is_in_request = 0, True
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body; see `httptools.HttpRequestParser`."""
        self._without_body = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request; see `httptools.HttpRequestParser`."""
        self._without_body, self._is_in_request = 0, False
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what the parser cannot take, and close."""
        self._answer(self._refusal or Problem(400, "invalid_request", msg.rstrip(".").lower()))

    def _refuse_slow(self) -> None:
        self._timer = None
        self._refuse(Problem(408, "too_slow", f"the headers did not arrive within {HEAD_SECONDS:g} s"))

    def _refuse(self, problem: Problem) -> None:
        if self.transport.is_closing():
            return
        if self.cycle is not None and not self.cycle.response_complete:
            self._refusal = problem
            self.transport.abort()
            return
        self._answer(problem)

    def _answer(self, problem: Problem) -> None:
        self._refusal = problem
        self._stop_timer()
        content = json.dumps(problem.to_dict(secrets.token_hex(16))).encode()
        head = (
            f"HTTP/1.1 {problem.status} {http.HTTPStatus(problem.status).phrase}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\nConnection: close\r\n\r\n"
        )
        if self.transport.is_closing():
            return
        self.transport.pause_reading()
        self.loop.call_later(self._pace.delay_s(), self._end_with, head.encode() + content)

    def _end_with(self, answer: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(answer)
            self.transport.close()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _too_large() -> Problem:
    return Problem(
        431, "headers_too_large", f"the headers are larger than {MAX_HEAD_BYTES} bytes or more than {MAX_HEADERS}"
    )
