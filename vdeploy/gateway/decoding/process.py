"""One decoder process, seen from the gateway: started when needed, read with a deadline, killed when it overstays."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import vdeploy
from vdeploy.gateway.decoding.job import MAX_LINE_BYTES, Job
from vdeploy.gateway.logs import log_event
from vdeploy.gateway.problems import Problem, unavailable

__all__ = ["HINT", "SILENCE_SECONDS", "DecoderProcess", "Message", "decoder_failure"]

HINT = "send an intact MP4, MOV, AVI, MKV or WebM file that holds a video within the limits"

SILENCE_SECONDS = 12.0
"""A camera that sends nothing for this long is lost."""

_START_SECONDS = 60.0
_GRACE_SECONDS = 2.0
_CHECK_SECONDS = 0.2
_BOOT = (
    "import sys\n"
    "sys.path[:] = [entry for entry in sys.argv[1:] if not entry.startswith('--')]\n"
    "from vdeploy.gateway.decoding.worker import main\n"
    "sys.exit(main())"
)
"""Isolated mode (``-I``) keeps the working directory off ``sys.path``, on Python 3.10 as well."""

_PASSED_ON = ("HOME", "LANG", "LD_LIBRARY_PATH", "PATH", "TZ", "VIRTUAL_ENV")


class Message(NamedTuple):
    """One message of a process.

    Attributes:
        values: Fields of its line.
        payload: The bytes that follow.
    """

    values: dict[str, Any]
    payload: bytearray


class DecoderProcess:
    """A process that decodes one job after another.

    Args:
        network: Whether it may reach the network, for cameras.
        nice: How much lower its priority is than the gateway's, 0 to 19.
    """

    def __init__(self, network: bool, nice: int) -> None:
        self._options = [f"--nice={nice}", *(["--network"] if network else [])]
        self._process: subprocess.Popen[bytes] | None = None
        self._buffer = bytearray()

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its process id; 0 while it does not run."""
        return self._process.pid if self._process else 0

    def start(self) -> None:
        """Start it, unless it runs.

        Raises:
            Problem: It does not say that it is ready.
        """
        if self.is_alive:
            return
        self.kill()
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        environment |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-c", _BOOT, *_import_paths(), *self._options],
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            start_new_session=True,
            env=environment,
        )
        deadline = time.monotonic() + _START_SECONDS
        try:
            ready = self._message(self._process.stdout, deadline, 0, lambda: None)
        except (EOFError, TimeoutError):
            self.kill()
            raise decoder_failure("cannot be started") from None
        if not ready.values.get("ready"):
            self.kill()
            raise decoder_failure("cannot be started")
        _report_missing(tuple(ready.values.get("missing", ())))

    def run(self, job: Job, check: Callable[[], None]) -> Iterator[Message]:
        """Decode a file.

        Args:
            job: The file.
            check: Called while there is no message; what it raises ends the iteration.

        Yields:
            Messages; the last one has an ``end``.

        Raises:
            Problem: It takes too much time or memory, or the process says something that it should not.
        """
        process = self._process
        assert process is not None  # noqa: S101  started by the pool
        assert process.stdin is not None  # noqa: S101
        deadline = time.monotonic() + job.limits.wall_s + _GRACE_SECONDS
        limit = job.spec.frames * job.spec.size**2 * 3
        try:
            process.stdin.write(job.to_line())
            while True:
                if job.live:
                    deadline = time.monotonic() + SILENCE_SECONDS
                message = self._message(process.stdout, deadline, limit, check)
                yield message
                if message.values.get("end"):
                    return
        except (EOFError, BrokenPipeError):
            raise Problem(422, "too_expensive", "the video cannot be decoded within the limits", HINT) from None
        except TimeoutError:
            raise Problem(422, "too_expensive", "the video takes too long to decode", HINT) from None
        except (ValueError, TypeError, RecursionError):
            raise decoder_failure("sent something other than messages") from None

    def kill(self) -> None:
        """End the process and its children, and reap it."""
        process, self._process = self._process, None
        self._buffer.clear()
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()

    def _message(self, pipe: IO[bytes] | None, deadline: float, limit: int, check: Callable[[], None]) -> Message:
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > MAX_LINE_BYTES:
                raise ValueError("a line without an end")
            self._buffer += _read(pipe, deadline, 65_536, check)
        values = json.loads(self._buffer[:end])
        if not isinstance(values, dict):
            raise ValueError("a message that is no object")
        del self._buffer[: end + 1]
        size = int(values.get("bytes", 0))
        if not 0 <= size <= limit:
            raise ValueError("a message that is too large")
        while len(self._buffer) < size:
            self._buffer += _read(pipe, deadline, min(size - len(self._buffer), 1 << 20), check)
        payload = self._buffer[:size]
        del self._buffer[:size]
        return Message(values, payload)


def decoder_failure(what: str) -> Problem:
    """503: a decoder process did not do what it should."""
    return unavailable("decoder_failed", f"the decoder {what}")


@functools.cache
def _report_missing(protections: tuple[str, ...]) -> None:
    """Log once what this system cannot protect."""
    for protection in protections:
        log_event("confinement_incomplete", level=logging.WARNING, missing=protection)


def _import_paths() -> list[str]:
    """Absolute entries of ``sys.path``, without the working directory unless this package lies in it."""
    package = Path(vdeploy.__file__).parents[1]
    entries = [Path(entry) for entry in sys.path if entry and Path(entry).is_absolute()]
    return [str(entry) for entry in entries if entry == package or entry.resolve() != Path.cwd()]


def _read(pipe: IO[bytes] | None, deadline: float, size: int, check: Callable[[], None]) -> bytes:
    assert pipe is not None  # noqa: S101  opened as a pipe
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while not selector.select(min(max(0.0, deadline - time.monotonic()), _CHECK_SECONDS)):
            check()
            if time.monotonic() >= deadline:
                raise TimeoutError
    if not (content := pipe.read(size)):
        raise EOFError
    return content
