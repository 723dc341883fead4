"""Messages of a decoder process, read from a pipe with a deadline and within limits."""

from __future__ import annotations

import io
import json
import select
import time
from collections.abc import Callable
from typing import IO, Any, NamedTuple, cast

from vdeploy.video.workers.messages import MAX_LINE_BYTES

__all__ = ["Message", "MessageReader"]

_CHECK_SECONDS = 0.2
_SKIPPED_BYTES = 1 << 20


class Message(NamedTuple):
    """One message of a process.

    Attributes:
        values: Fields of its line.
        payload: The bytes that follow.
    """

    values: dict[str, Any]
    payload: bytearray


class MessageReader:
    """Reads messages one after the other.

    Args:
        pipe: Unbuffered; where they come from.
    """

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
        self._buffer = bytearray()

    def read(self, deadline: float | None, limit: int, check: Callable[[], None]) -> Message:
        """The next message.

        Args:
            deadline: On the clock of `time.monotonic`; `None` for none.
            limit: Bytes that may follow its line.
            check: Called while there is nothing to read; what it raises ends the wait.

        Raises:
            EOFError: The pipe has ended.
            TimeoutError: There is none in time.
            ValueError: What comes is no message, or too long.
        """
        pipe = self._pipe
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > MAX_LINE_BYTES:
                raise ValueError("a line without an end")
            _wait(pipe, deadline, check)
            self._buffer += _some(pipe.read(MAX_LINE_BYTES))
        values = json.loads(self._buffer[:end])
        if not isinstance(values, dict):
            raise ValueError("a message that is no object")
        size = int(values.get("bytes", 0))
        if not 0 <= size <= limit:
            raise ValueError("a message that is too large")
        payload = bytearray(size)
        held = self._buffer[end + 1 : end + 1 + size]
        payload[: len(held)] = held
        del self._buffer[: end + 1 + len(held)]
        with memoryview(payload) as view:
            filled = len(held)
            while filled < size:
                _wait(pipe, deadline, check)
                filled += _some(cast("io.FileIO", pipe).readinto(view[filled:]))
        return Message(values, payload)

    def skip(self, mark: bytes, deadline: float) -> None:
        """Leave out what comes up to a mark, and the mark.

        Args:
            mark: Bytes that nothing before them holds.
            deadline: On the clock of `time.monotonic`.

        Raises:
            EOFError: The pipe has ended.
            TimeoutError: The mark does not come in time.
        """
        while (start := self._buffer.find(mark)) < 0:
            del self._buffer[: -len(mark)]
            _wait(self._pipe, deadline, lambda: None)
            self._buffer += _some(self._pipe.read(_SKIPPED_BYTES))
        del self._buffer[: start + len(mark)]


def _some(found: Any) -> Any:
    if not found:
        raise EOFError
    return found


def _wait(pipe: IO[bytes], deadline: float | None, check: Callable[[], None]) -> None:
    """Wait until a pipe has something to read, or has ended."""
    ready = select.poll()
    ready.register(pipe.fileno(), select.POLLIN)
    while True:
        left_s = _CHECK_SECONDS if deadline is None else min(max(0.0, deadline - time.monotonic()), _CHECK_SECONDS)
        if ready.poll(left_s * 1000):
            return
        check()
        if deadline is not None and time.monotonic() >= deadline:
            raise TimeoutError
