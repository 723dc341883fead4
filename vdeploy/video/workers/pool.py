"""The decoder processes of this program: started when needed, kept for the next file, ended with the program."""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path

from vdeploy.core.errors import ClipError, UserError
from vdeploy.video.workers.message_reader import Message
from vdeploy.video.workers.messages import Request
from vdeploy.video.workers.process import DecoderError, DecoderProcess, DecoderStartError

__all__ = ["SILENCE_SECONDS", "WorkerPool", "camera_workers", "workers"]

SILENCE_SECONDS = 60.0
"""A decoder that decodes no frame for this long hangs, and is ended."""

_TASKS = ("clip", "reader", "samples", "live")
_KEPT = 8


class WorkerPool:
    """Lends decoder processes to threads; there are as many as are in use at a time.

    Args:
        tasks: What they can do.
        network: Whether they may reach the network.
    """

    def __init__(self, tasks: Sequence[str] = _TASKS, *, network: bool = False) -> None:
        self._tasks, self._network = tasks, network
        self._lock = threading.Lock()
        self._idle: list[DecoderProcess] = []
        self._lent: list[DecoderProcess] = []

    @property
    def processes(self) -> list[DecoderProcess]:
        """Those that decode at the moment."""
        return [process for process in self._lent if process.source]

    @contextlib.contextmanager
    def borrow(self) -> Iterator[DecoderProcess]:
        """Hold a process for the duration of the block. One that did not answer to the end is killed.

        Raises:
            UserError: It cannot be started.
        """
        with self._lock:
            process = self._idle.pop() if self._idle else DecoderProcess(self._tasks, network=self._network)
            self._lent.append(process)
        try:
            process.start()
            yield process
        except DecoderStartError as error:
            raise UserError(f"the decoder {error}", "see that memory, processes and time are left for it") from error
        finally:
            with self._lock:
                self._lent.remove(process)
                is_kept = not process.source and len(self._idle) < _KEPT
                if is_kept:
                    self._idle.append(process)
            if not is_kept:
                process.kill()

    def answer(self, path: Path, request: Request, check: Callable[[], None]) -> Generator[Message, None, None]:
        """Decode a file; closing the iterator gives it up.

        Args:
            path: The file, as it is called in errors.
            request: The file, and what to do with it.
            check: Called while there is no message; what it raises gives the file up.

        Yields:
            Messages; the last one has an ``end``.

        Raises:
            ClipError: The decoder ended, hung, or sent no answer.
            UserError: No decoder can be started.
        """
        with self.borrow() as process:
            try:
                yield from process.run(request, check, silence_s=SILENCE_SECONDS)
            except DecoderError as error:
                raise ClipError(path, f"cannot be decoded: its decoder {error}") from error

    def close(self) -> None:
        """End the processes that nobody holds."""
        with self._lock:
            idle, self._idle = self._idle, []
        for process in idle:
            process.kill()

    def forget(self) -> None:
        """Leave the processes to the program that this one was forked from."""
        self._lock = threading.Lock()
        self._idle, self._lent = [], []


workers = WorkerPool()
"""Decode files and devices."""

camera_workers = WorkerPool(("live",), network=True)
"""Decode what comes from addresses."""

for _one in (workers, camera_workers):
    atexit.register(_one.close)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_one.forget)
