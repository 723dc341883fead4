"""Deliver reports to a web server from a separate thread, so that watching never waits for it."""

from __future__ import annotations

import base64
import http.client
import queue
import threading
import urllib.error
import urllib.parse
import urllib.request
from types import TracebackType
from typing import TYPE_CHECKING

from vdeploy.core.errors import SourceError
from vdeploy.core.web_client import direct_opener
from vdeploy.live.addresses import shown_address, split_address

if TYPE_CHECKING:
    from vdeploy.live.report import Report

__all__ = ["Webhook"]

_WAITING = 1000
_TIMEOUT_S = 5.0
_TRIES = 4
_FIRST_WAIT_S = 0.5
_FLUSH_S = 5.0


class Webhook:
    """Posts reports as JSON, one after the other, each up to four times; reports beyond 1000 waiting ones are dropped.

    Use it in a ``with`` block; at its end, waiting reports get a few seconds. A redirection counts as a failure, so
    that credentials and reports reach no other server. A server on this machine is reached without a proxy.

    Args:
        address: An ``http://`` or ``https://`` address; user and password in it are sent as basic authentication.

    Attributes:
        delivered: Reports that the server has accepted.
        failed: Reports that it has not.
        last_error: Why the last of these failed.

    Raises:
        SourceError: The address is not that of a web server.
    """

    def __init__(self, address: str) -> None:
        parts = split_address(address) if "://" in address else urllib.parse.SplitResult("", "", "", "", "")
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise SourceError(
                f"{shown_address(address)} is no address of a web server", "give --webhook http://HOST/PATH"
            )
        self._address = urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment=""))
        self._headers = {"Content-Type": "application/json", "User-Agent": "vdeploy"}
        if parts.username:
            pair = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
            self._headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        self._opener = direct_opener(self._address)
        self._waiting: queue.Queue[Report | None] = queue.Queue(_WAITING)
        self._hurry = threading.Event()
        self._thread = threading.Thread(target=self._run, name="webhook", daemon=True)
        self.delivered = self.failed = 0
        self.last_error = ""

    def __enter__(self) -> Webhook:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._waiting.put(None, timeout=_FLUSH_S)
        except queue.Full:
            self._hurry.set()
        self._thread.join(_FLUSH_S)
        self._hurry.set()

    def send(self, report: Report) -> None:
        """Queue a report; never waits."""
        try:
            self._waiting.put_nowait(report)
        except queue.Full:
            self._fail("too many reports wait")

    def _run(self) -> None:
        while not self._hurry.is_set() and (report := self._waiting.get()) is not None:
            self._deliver(report)

    def _deliver(self, report: Report) -> None:
        reason = ""
        for attempt in range(_TRIES):
            if attempt and self._hurry.wait(_FIRST_WAIT_S * 2.0 ** (attempt - 1)):
                break
            request = urllib.request.Request(  # noqa: S310  its scheme has been checked
                self._address, data=report.to_json().encode(), headers=self._headers
            )
            try:
                with self._opener.open(request, timeout=_TIMEOUT_S):
                    self.delivered += 1
                    return
            except urllib.error.HTTPError as error:
                reason = f"it answers {error.code}"
                error.close()
                if 300 <= error.code < 500 and error.code not in {408, 429}:
                    break
            except (OSError, http.client.HTTPException) as error:
                reason = str(getattr(error, "reason", error)) or type(error).__name__
        self._fail(reason)

    def _fail(self, reason: str) -> None:
        self.failed += 1
        self.last_error = f"{shown_address(self._address)}: {reason}"
