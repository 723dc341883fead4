"""The process of one row: loads the job, then executes commands from stdin.

Run as a script. The first line on stdin is a `Job`, each further line a command; each is answered by a line of JSON on
stdout:

- the job: ``{"device": ...}``, or ``{"refused": REASON}`` where it cannot run on this machine;
- ``{"warm": SECONDS}``: runs untimed calls, at least one, and answers ``{"calls"}``;
- ``{"window": SECONDS}``: times calls, at least one, and answers ``{"durations", "untimed", "parts"}``, in seconds,
  ``"peak_memory_bytes"`` of the process so far, ``"calls_per_s"`` with several callers (else ``null``), and
  ``"server"``, the counters of a server over the same time;
- ``{"score": PATH}``: answers ``{"probability"}`` of a video, or ``{"unreadable": REASON}``.

A command that fails is answered by ``{"failed": REASON}`` and ends the process. Output of libraries goes to stderr. The
process ends when its stdin is closed.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections import Counter
from pathlib import Path
from typing import IO, Any

import numpy as np

from vdeploy.benchmark.measure.concurrency import ConcurrentRun, run_concurrently
from vdeploy.benchmark.measure.row_job import Job
from vdeploy.benchmark.measure.subjects import Subject
from vdeploy.benchmark.measure.workloads import open_subject
from vdeploy.benchmark.served.statistics import difference
from vdeploy.core.errors import ClipError, UserError
from vdeploy.video.workers.clips import decode_clip

__all__ = ["Worker", "main", "peak_memory_bytes"]

_QUICK = 20
"""Where at least this many calls fit into a window, an untimed call precedes it, to fill the caches again."""

_ROUNDS = 2
"""Least number of calls per caller in a window; the first of each meets a shorter queue and is not timed."""


class Worker:
    """Executes commands on a subject.

    Args:
        subject: What is timed.
    """

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._callers = (subject.call, *subject.others)
        self._index = 0
        self._last_seconds = float("inf")

    def execute(self, command: dict[str, Any]) -> dict[str, Any]:
        """Executes one command.

        Args:
            command: As the module describes it.

        Returns:
            The answer, JSON-ready.
        """
        if "warm" in command:
            return self._warm(float(command["warm"]))
        if "window" in command:
            return self._window(float(command["window"]))
        return self._score(str(command["score"]))

    def _warm(self, seconds: float) -> dict[str, Any]:
        if self._subject.others:
            return {"calls": self._run_concurrently(seconds, 1).calls}
        end, calls = time.perf_counter() + seconds, 0
        while not calls or time.perf_counter() < end:
            self._call()
            calls += 1
        return {"calls": calls}

    def _window(self, seconds: float) -> dict[str, Any]:
        before = self._subject.counts()
        timed = self._time_concurrently(seconds) if self._subject.others else self._time_alone(seconds)
        counted = difference(before, self._subject.counts())
        return {**timed, "server": counted, "peak_memory_bytes": peak_memory_bytes()}

    def _time_concurrently(self, seconds: float) -> dict[str, Any]:
        run = self._run_concurrently(seconds, _ROUNDS)
        durations = run.durations[len(self._callers) :]
        untimed, rate = run.calls - len(durations), run.calls / run.seconds
        return {"durations": durations, "untimed": untimed, "parts": {}, "calls_per_s": rate}

    def _run_concurrently(self, seconds: float, rounds: int) -> ConcurrentRun:
        run = run_concurrently(self._callers, self._index, seconds, rounds)
        self._index += run.calls
        return run

    def _time_alone(self, seconds: float) -> dict[str, Any]:
        untimed = int(self._last_seconds * _QUICK < seconds)
        if untimed:
            self._call()
        durations: list[float] = []
        parts: Counter[str] = Counter()
        end = time.perf_counter() + seconds
        while not durations or time.perf_counter() < end:
            parts.update(self._call())
            durations.append(self._last_seconds)
        return {"durations": durations, "untimed": untimed, "parts": dict(parts), "calls_per_s": None}

    def _score(self, path: str) -> dict[str, Any]:
        scorer = self._subject.scorer
        if scorer is None:
            raise ValueError("a single stage scores no clips")
        try:
            frames = decode_clip(Path(path), scorer.spec).frames
        except ClipError as error:
            return {"unreadable": error.reason}
        return {"probability": float(scorer.score(frames[np.newaxis])[0, 1])}

    def _call(self) -> dict[str, float]:
        started = time.perf_counter()
        parts = self._subject.call(self._index)
        self._last_seconds = time.perf_counter() - started
        self._index += 1
        return parts


def peak_memory_bytes() -> int | None:
    """Peak resident memory of this process; ``None`` where the kernel does not report it."""
    try:
        found = re.search(r"^VmHWM:\s+(\d+) kB$", Path("/proc/self/status").read_text(encoding="ascii"), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None


def main(commands: IO[str], answers: IO[str]) -> None:
    """Answers the lines of a stream until it ends.

    Args:
        commands: A job, then commands.
        answers: Stream for the answers.
    """
    job, verb = Job.from_json(commands.readline()), "refused"
    try:
        with open_subject(job) as subject:
            worker = Worker(subject)
            _answer(answers, {"device": _device(job)})
            verb = "failed"
            for line in commands:
                _answer(answers, worker.execute(json.loads(line)))
    except UserError as error:
        _answer(answers, {verb: str(error)})


def _answer(answers: IO[str], value: dict[str, Any]) -> None:
    answers.write(json.dumps(value) + "\n")
    answers.flush()


def _device(job: Job) -> str:
    if job.url is not None:
        return "server"
    if job.format.startswith("tensorrt"):
        return "gpu"
    tensorflow = sys.modules.get("tensorflow")
    return "gpu" if tensorflow is not None and tensorflow.config.list_physical_devices("GPU") else "cpu"


if __name__ == "__main__":
    own = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    main(sys.stdin, own)
