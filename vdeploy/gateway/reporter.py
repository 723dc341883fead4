"""The connection from a stream's worker thread to its readers: notices out, cancellation in."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

__all__ = ["Cancelled", "Reporter"]


class Cancelled(Exception):  # noqa: N818  a request, not a failure
    """The work is no longer needed.

    Args:
        reason: Why it was cancelled; empty if a client asked for it.
    """

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


class Reporter:
    """Passes notices from a worker thread to a stream, and tells the thread to stop.

    Args:
        send: Called with the kind and the data of each notice, from the worker thread.
    """

    def __init__(self, send: Callable[[str, dict[str, Any]], None]) -> None:
        self._send = send
        self._cancelled = threading.Event()
        self._reason = ""

    def cancel(self, reason: str = "") -> None:
        """Make the next call of `check` or `tell` raise; the first reason counts."""
        if not self._cancelled.is_set():
            self._reason = reason
            self._cancelled.set()

    def check(self) -> None:
        """Return if the work is still needed.

        Raises:
            Cancelled: It is not.
        """
        if self._cancelled.is_set():
            raise Cancelled(self._reason)

    def tell(self, kind: str, data: dict[str, Any]) -> None:
        """Send a notice to the readers.

        Args:
            kind: ``window``, ``event``, ``timeline`` or ``lost``.
            data: JSON-ready.

        Raises:
            Cancelled: The work is no longer needed.
        """
        self.check()
        self._send(kind, data)
