"""Messages between a program and its decoder processes.

A request is a line of JSON on the process's standard input. The answer on its standard output is a sequence of
messages, each a line of JSON; a message with ``bytes`` is followed by so many bytes. A message with ``end`` is the last
one; one with ``beat`` says only that decoding goes on. Every message is checked by whoever reads it: a malicious file
may have taken the process over.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import select
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from vdeploy.video.workers.limits import DecodingLimits

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["END_OF_GROUP", "MAX_LINE_BYTES", "OUT_OF_MEMORY", "Channel", "Heartbeat", "Request", "Task"]

END_OF_GROUP = b"\n"
"""Line that ends the process which decodes a group of files."""

OUT_OF_MEMORY = errno.ENOMEM
"""Exit code of a decoder that has too little memory left to say so."""

MAX_LINE_BYTES = 16_384

_BEAT_S = 2.0


@dataclasses.dataclass(frozen=True)
class Request:
    """A source to decode.

    Attributes:
        task: What to do with it, a name of `vdeploy.video.workers.tasks.TASKS`.
        source: Absolute path of a file or device; address of a camera.
        limits: Of the decoding.
        arguments: JSON-ready arguments of the task.
        group: Files of which the source is one, and which one confined process decodes one after the other; a source
            without a group has a process to itself.
        largest: Bytes that may follow a line of the answer.
        nice: How much lower than usual the priority of the process that decodes the source alone is, 0 to 19.
    """

    task: str
    source: str
    limits: DecodingLimits
    arguments: Mapping[str, Any]
    group: tuple[str, ...] = ()
    largest: int = 0
    nice: int = 0

    def to_line(self, *, with_group: bool = True) -> bytes:
        """The request as a line of JSON.

        Args:
            with_group: Whether the files of the group are listed; a process that decodes the group knows them.
        """
        values = dataclasses.asdict(self)
        if not with_group:
            values["group"] = ()
        return json.dumps(values).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Request:
        """Read a line that `to_line` has written."""
        values = json.loads(line)
        limits, group = DecodingLimits(**values.pop("limits")), tuple(values.pop("group"))
        return cls(limits=limits, group=group, **values)


class Channel:
    """The standard streams of a decoder process.

    Args:
        source: Where lines come from.
        out: Where messages go.
    """

    def __init__(self, source: BinaryIO, out: BinaryIO) -> None:
        self._source, self.out = source, out

    @property
    def has_room(self) -> bool:
        """Whether a message can be written now, as whoever reads them has kept up."""
        return bool(select.select([], [self.out], [], 0)[1])

    def receive(self) -> bytes:
        """The next line; empty at the end."""
        return self._source.readline()

    def send(self, values: Mapping[str, object], payload: npt.NDArray[np.uint8] | None = None) -> None:
        """Write one message.

        Args:
            values: Fields of the line.
            payload: What follows the line; C-contiguous.
        """
        size = 0 if payload is None else payload.nbytes
        self.out.write(json.dumps({**values, "bytes": size}).encode() + b"\n")
        if payload is not None:
            self.out.write(payload.data)
        self.out.flush()


class Task(Protocol):
    """A module that decodes."""

    def run(self, request: Request, channel: Channel) -> None:
        """Answer a request with messages, the last of which has an ``end``."""


class Heartbeat(threading.Event):
    """Is never set; says now and then that decoding goes on when a reader asks whether to stop.

    Args:
        channel: Where to say it.
    """

    def __init__(self, channel: Channel) -> None:
        super().__init__()
        self._channel = channel
        self._next_s = time.monotonic() + _BEAT_S

    def is_set(self) -> bool:
        """False."""
        self.beat()
        return False

    def beat(self) -> None:
        """Say that decoding goes on, unless that was said a moment ago."""
        if time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + _BEAT_S
            self._channel.send({"beat": True})
