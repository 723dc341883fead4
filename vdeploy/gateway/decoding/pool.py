"""A few decoder processes that requests share; one that dies or overstays is replaced."""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import threading
import time
from collections.abc import Callable, Generator

import numpy as np
import numpy.typing as npt

from vdeploy.gateway.decoding.answers import (
    HINT,
    DecodedClip,
    VideoEnd,
    as_frames,
    decoder_failure,
    read_clip_answer,
    refusal,
)
from vdeploy.gateway.decoding.job import TASK, Job
from vdeploy.gateway.decoding.turns import Turns
from vdeploy.gateway.logs import log_event
from vdeploy.gateway.problems import Problem, busy, too_many_requests
from vdeploy.video.workers.message_reader import Message
from vdeploy.video.workers.process import (
    DecoderConfusedError,
    DecoderLostError,
    DecoderProcess,
    DecoderSilentError,
    DecoderStartError,
)

__all__ = ["BACKGROUND_NICE", "DecoderPool"]

BACKGROUND_NICE = 10
"""Priority of processes that decode streams: lower than that of the processes for requests."""

_HEAVY_NICE = 19
"""How much lower the priority of an owner's files is that has decoded more than the others lately."""

_FRESH_SECONDS = 30.0
_GRACE_SECONDS = 2.0
_SILENCE_SECONDS = 12.0
"""A camera that sends nothing for this long is lost."""


class DecoderPool:
    """Decodes files in processes that are limited, watched and replaced.

    Args:
        size: Processes.
        patience_s: Seconds that a file waits for a process; ``None`` waits as long as its check allows.
        network: Whether the processes may reach the network, for cameras.
        nice: How much lower the priority of the processes is than the gateway's, 0 to 19.
        share: Processes that one owner may hold at a time; all if left out.
        on_loss: Called whenever a process was lost.

    Attributes:
        answered: When a process last said something about a file, on the monotonic clock.
    """

    def __init__(
        self,
        size: int = 2,
        *,
        patience_s: float | None = 10.0,
        network: bool = False,
        nice: int = 0,
        share: Callable[[], int] | None = None,
        on_loss: Callable[[], None] | None = None,
    ) -> None:
        self.answered = -math.inf
        self._patience = patience_s
        self._on_loss = on_loss
        self._workers = [
            DecoderProcess([TASK], network=network, nice=nice, report_missing=_report_missing) for _ in range(size)
        ]
        self._turns = Turns(self._workers, share or (lambda: size))
        self._closed = threading.Event()

    @property
    def processes(self) -> list[int]:
        """Ids of the living processes."""
        return [worker.pid for worker in self._workers if worker.is_alive]

    @property
    def expected_s(self) -> float:
        """Seconds until a file that comes now is decoded, if it takes as long as the last ones; 0 if one is idle."""
        return self._turns.expected_s

    def clip(self, job: Job, *, owner: str = "", check: Callable[[], None] = lambda: None) -> DecodedClip:
        """Decode the frames of one clip.

        Args:
            job: The file.
            owner: Who sent it.
            check: Called while there is nothing to do; what it raises gives the file up.

        Raises:
            Problem: It cannot be decoded within its limits, or no process is free in time.
        """
        return read_clip_answer(self._messages(job, owner, check, self._patience), job.spec)

    def probe(self, job: Job) -> None:
        """Decode a clip, unless all processes are at work or have answered lately.

        Args:
            job: A clip that can be decoded.

        Raises:
            Problem: It was not decoded.
        """
        if time.monotonic() - self.answered < _FRESH_SECONDS:
            return
        try:
            read_clip_answer(self._messages(job, "", lambda: None, 0.0), job.spec)
        except Problem as problem:
            if problem.code != "busy":
                raise

    def samples(
        self, job: Job, *, owner: str = "", check: Callable[[], None] = lambda: None
    ) -> Generator[tuple[int, npt.NDArray[np.uint8]], None, VideoEnd]:
        """Decode the frames of a video of any length that the job's plan samples.

        Args:
            job: The file, with a plan.
            owner: Who sent it.
            check: Called at every frame and while none is there; what it raises gives the file up.

        Yields:
            Each frame with its number: ``uint8[S, S, 3]``, RGB. Closing the generator gives the file up.

        Returns:
            The length of the video.

        Raises:
            Problem: As for `clip`.
        """
        size, before = job.spec.size, -1
        with contextlib.closing(self._messages(job, owner, check, self._patience)) as messages:
            for values, payload in messages:
                check()
                if values.get("end"):
                    warnings = tuple(str(warning) for warning in values.get("warnings", ()))
                    return VideoEnd(float(values["duration_s"]), float(values["expected_s"]), warnings)
                index = int(values["index"])
                if index <= before:
                    raise decoder_failure("counts backwards")
                before = index
                yield index, as_frames(payload, (size, size, 3))
        raise decoder_failure("ended without an end")

    def _messages(
        self, job: Job, owner: str, check: Callable[[], None], patience_s: float | None
    ) -> Generator[Message, None, None]:
        """Messages of a process about a file; closing the generator gives the file up."""
        if self._closed.is_set():
            raise busy("the gateway is shutting down", retry_after_s=5)
        with contextlib.ExitStack() as stack:
            try:
                worker = stack.enter_context(self._turns.borrow(owner, patience_s, check))
            except TimeoutError:
                raise busy("all decoders are at work") from None
            finished = False
            try:
                nice = _HEAVY_NICE if self._turns.is_heavy(owner) else 0
                for message in _answer(worker, job, nice, check):
                    self.answered = time.monotonic()
                    if message.values.get("end"):
                        finished = True
                        if "code" in message.values:
                            raise refusal(message.values)
                    yield message
            finally:
                if not finished and not worker.cancel() and self._on_loss:
                    self._on_loss()
                if self._closed.is_set():
                    worker.kill()

    def close(self) -> None:
        """End all processes."""
        self._closed.set()
        for worker in self._workers:
            worker.kill()


def _answer(worker: DecoderProcess, job: Job, nice: int, check: Callable[[], None]) -> Generator[Message, None, None]:
    """The messages of a process about a file.

    Raises:
        Problem: It takes too much time or memory, or the process says something that it should not.
    """
    within_s, silence_s = (None, _SILENCE_SECONDS) if job.live else (job.limits.wall_s + _GRACE_SECONDS, None)
    begun = time.monotonic()

    def refused(how: str) -> Problem:
        if nice and not job.live and time.monotonic() - begun >= job.limits.wall_s:
            return too_many_requests("this key decodes more than the others; no time was left for this video", 10)
        return Problem(422, "too_expensive", f"the video {how}", HINT)

    try:
        worker.start(check)
        yield from worker.run(job.to_request(nice), check, within_s=within_s, silence_s=silence_s)
    except DecoderLostError:
        raise refused("cannot be decoded within the limits") from None
    except DecoderSilentError:
        worker.kill()
        raise refused("takes too long to decode") from None
    except (DecoderStartError, DecoderConfusedError) as error:
        worker.kill()
        raise decoder_failure(str(error)) from None


@functools.cache
def _report_missing(protections: tuple[str, ...]) -> None:
    """Log once what this system cannot protect."""
    for protection in protections:
        log_event("confinement_incomplete", level=logging.WARNING, missing=protection)
