"""A few decoding processes; one that dies or overstays is replaced."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import queue
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from vdeploy.gateway.decoding.job import MAX_LINE_BYTES, Job
from vdeploy.gateway.problems import Problem, busy, unavailable

__all__ = ["DecodedClip", "DecoderPool", "VideoEnd"]

SILENCE_SECONDS = 12.0
"""A camera that sends nothing for so long is lost."""

_START_SECONDS = 60.0
_GRACE_SECONDS = 2.0
_PASSED_ON = ("HOME", "LANG", "LD_LIBRARY_PATH", "PATH", "TZ", "VIRTUAL_ENV")
_HINT = "send an intact MP4, MOV, AVI, MKV or WebM file that holds a video within the limits"


@dataclasses.dataclass(frozen=True, eq=False)
class DecodedClip:
    """The frames of one file.

    Attributes:
        frames: ``uint8[T, S, S, 3]`` RGB.
        count: Frames that the file holds.
        fps: Mean frames per second according to the container; 0 if it says nothing.
        warnings: What is odd about the file.
    """

    frames: npt.NDArray[np.uint8]
    count: int
    fps: float
    warnings: tuple[str, ...]


class VideoEnd(NamedTuple):
    """A video has been decoded to its end.

    Attributes:
        duration_s: How long it is, in seconds.
        expected_s: How long it is according to its container; 0 if that says nothing.
    """

    duration_s: float
    expected_s: float


class _Message(NamedTuple):
    values: dict[str, Any]
    payload: bytearray


class DecoderPool:
    """Decodes files in processes that are limited, watched and replaced.

    Args:
        size: Processes.
        patience_s: How long a file may wait for a process.
        network: Whether the processes may reach the network, for cameras.
        on_loss: Called whenever a process was lost.
    """

    def __init__(
        self,
        size: int = 2,
        *,
        patience_s: float = 10.0,
        network: bool = False,
        on_loss: Callable[[], None] | None = None,
    ) -> None:
        self._patience = patience_s
        self._on_loss = on_loss
        self._lock = threading.Lock()
        self._workers = {_Worker(network) for _ in range(size)}
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        for worker in self._workers:
            self._idle.put(worker)
        self._closed = threading.Event()

    @property
    def processes(self) -> list[int]:
        """Ids of the living processes."""
        with self._lock:
            return [worker.pid for worker in self._workers if worker.is_alive]

    def clip(self, job: Job) -> DecodedClip:
        """Decodes the frames of one clip.

        Args:
            job: The file.

        Raises:
            Problem: It cannot be decoded within its limits, or no process is free in time.
        """
        spec = job.spec
        frames: npt.NDArray[np.uint8] | None = None
        with contextlib.closing(self._messages(job)) as messages:
            for values, payload in messages:
                if values.get("end") and frames is not None:
                    warnings = tuple(str(warning) for warning in values["warnings"])
                    return DecodedClip(frames, int(values["frames"]), float(values["fps"]), warnings)
                frames = _array(payload, (spec.frames, spec.size, spec.size, 3))
        raise _failure("ended without frames")

    def samples(self, job: Job) -> Generator[tuple[int, npt.NDArray[np.uint8]], None, VideoEnd]:
        """Decodes the frames of a video of any length that the job's plan samples.

        Args:
            job: The file, with a plan.

        Yields:
            Each frame with its number: ``uint8[S, S, 3]``, RGB. Closing the generator gives the file up.

        Returns:
            What was found out on the way.

        Raises:
            Problem: As for `clip`.
        """
        size, before = job.spec.size, -1
        with contextlib.closing(self._messages(job)) as messages:
            for values, payload in messages:
                if values.get("end"):
                    return VideoEnd(float(values["duration_s"]), float(values["expected_s"]))
                index = int(values["index"])
                if index <= before:
                    raise _failure("counts backwards")
                before = index
                yield index, _array(payload, (size, size, 3))
        raise _failure("ended without an end")

    def _messages(self, job: Job) -> Generator[_Message, None, None]:
        """What a process says about a file, message by message; closing the generator gives the file up."""
        if self._closed.is_set():
            raise busy("the gateway is shutting down", retry_after_s=5)
        try:
            worker = self._idle.get(timeout=self._patience)
        except queue.Empty:
            raise busy("all decoders are at work") from None
        finished = False
        try:
            worker.start()
            for message in worker.run(job):
                if message.values.get("end"):
                    finished = True
                    if "code" in message.values:
                        raise _refusal(message.values)
                yield message
        finally:
            if not finished:
                worker.kill()
                if self._on_loss:
                    self._on_loss()
            self._idle.put(worker)
            if self._closed.is_set():
                worker.kill()

    def close(self) -> None:
        """Ends all processes."""
        self._closed.set()
        for worker in self._workers:
            worker.kill()


def _array(payload: bytearray, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    if len(payload) != math.prod(shape):
        raise _failure("gave something else than frames")
    return np.frombuffer(payload, np.uint8).reshape(shape)


def _failure(what: str) -> Problem:
    return unavailable("decoder_failed", f"the decoder {what}")


def _refusal(values: dict[str, Any]) -> Problem:
    return Problem(422, str(values["code"])[:40], f"the video {str(values.get('reason'))[:200]}", _HINT)


class _Worker:
    """One process, started when it is needed."""

    def __init__(self, network: bool) -> None:
        self._options = ["--network"] if network else []
        self._process: subprocess.Popen[bytes] | None = None
        self._buffer = bytearray()

    @property
    def is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    def start(self) -> None:
        if self.is_alive:
            return
        self.kill()
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        environment |= {
            "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
            "OPENBLAS_NUM_THREADS": "1",
            "OMP_NUM_THREADS": "1",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "vdeploy.gateway.decoding.worker", *self._options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            start_new_session=True,
            env=environment,
        )
        try:
            ready = self._message(self._process.stdout, time.monotonic() + _START_SECONDS, 0)
        except (EOFError, TimeoutError):
            self.kill()
            raise _failure("cannot be started") from None
        if not ready.values.get("ready"):
            self.kill()
            raise _failure("cannot be started")

    def run(self, job: Job) -> Iterator[_Message]:
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
                message = self._message(process.stdout, deadline, limit)
                yield message
                if message.values.get("end"):
                    return
        except (EOFError, BrokenPipeError):
            raise Problem(422, "too_expensive", "the video cannot be decoded within the limits", _HINT) from None
        except TimeoutError:
            raise Problem(422, "too_expensive", "the video takes too long to decode", _HINT) from None
        except ValueError:
            raise _failure("speaks another language") from None

    def kill(self) -> None:
        """Ends the process and its children, and takes what it leaves."""
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

    def _message(self, pipe: IO[bytes] | None, deadline: float, limit: int) -> _Message:
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > MAX_LINE_BYTES:
                raise ValueError("a line without an end")
            self._buffer += self._read(pipe, deadline, 65_536)
        values = json.loads(self._buffer[:end])
        if not isinstance(values, dict):
            raise ValueError("a message that is no object")
        del self._buffer[: end + 1]
        size = int(values.get("bytes", 0))
        if not 0 <= size <= limit:
            raise ValueError("a message that is too large")
        while len(self._buffer) < size:
            self._buffer += self._read(pipe, deadline, min(size - len(self._buffer), 1 << 20))
        payload = self._buffer[:size]
        del self._buffer[:size]
        return _Message(values, payload)

    def _read(self, pipe: IO[bytes] | None, deadline: float, size: int) -> bytes:
        assert pipe is not None  # noqa: S101  opened as a pipe
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_READ)
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise TimeoutError
        if not (content := pipe.read(size)):
            raise EOFError
        return content
