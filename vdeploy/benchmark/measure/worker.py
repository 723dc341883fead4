"""The process of one row: loads what the row needs, then does what it is told, line by line.

Run as a script. The first line on stdin is a `Job`, each further one an order; a line of JSON on stdout answers each:

- the job: ``{"device": ...}``, or ``{"refused": REASON}`` where it cannot run here;
- ``{"warm": SECONDS}``: calls untimed, at least once, and answers ``{"calls"}``;
- ``{"window": SECONDS}``: times calls, at least one, and answers ``{"durations", "untimed", "parts"}``, in seconds,
  ``"peak_memory_bytes"`` of the process until then, ``"calls_per_s"`` where several callers are at it (else ``null``),
  and ``"server"``, what a server has counted meanwhile;
- ``{"judge": PATH}``: answers ``{"probability"}`` of a video, or ``{"unreadable": REASON}``.

An order that cannot be carried out is answered by ``{"failed": REASON}`` and ends the process. What libraries print
goes to stderr. The process ends with its stdin.
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

from vdeploy.benchmark.measure.concurrency import Flight, call_together
from vdeploy.benchmark.measure.row_job import Job
from vdeploy.benchmark.measure.workloads import Subject, open_subject
from vdeploy.benchmark.served.statistics import difference
from vdeploy.core.errors import ClipError, UserError
from vdeploy.video.clips import read_clip

__all__ = ["Performer", "main", "peak_memory_bytes"]

_QUICK = 20
"""A call of which so many fit into a window is done once more in front of it, to fill the caches again."""

_ROUNDS = 2
"""Calls of each of several callers in a window, at least; the first of each meets a queue that is not full yet."""


class Performer:
    """Carries out orders.

    Args:
        subject: What is timed.
    """

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._callers = (subject.call, *subject.others)
        self._index = 0
        self._last_seconds = float("inf")

    def obey(self, order: dict[str, Any]) -> dict[str, Any]:
        """Carries out one order; see the module."""
        if "warm" in order:
            return self._warm(float(order["warm"]))
        if "window" in order:
            return self._window(float(order["window"]))
        return self._judge(str(order["judge"]))

    def _warm(self, seconds: float) -> dict[str, Any]:
        if self._subject.others:
            return {"calls": self._together(seconds, 1).calls}
        end, calls = time.perf_counter() + seconds, 0
        while not calls or time.perf_counter() < end:
            self._call()
            calls += 1
        return {"calls": calls}

    def _window(self, seconds: float) -> dict[str, Any]:
        before = self._subject.counts()
        timed = self._timed_together(seconds) if self._subject.others else self._timed_alone(seconds)
        counted = difference(before, self._subject.counts())
        return {**timed, "server": counted, "peak_memory_bytes": peak_memory_bytes()}

    def _timed_together(self, seconds: float) -> dict[str, Any]:
        flight = self._together(seconds, _ROUNDS)
        durations = flight.durations[len(self._callers) :]
        untimed, rate = flight.calls - len(durations), flight.calls / flight.seconds
        return {"durations": durations, "untimed": untimed, "parts": {}, "calls_per_s": rate}

    def _together(self, seconds: float, rounds: int) -> Flight:
        flight = call_together(self._callers, self._index, seconds, rounds)
        self._index += flight.calls
        return flight

    def _timed_alone(self, seconds: float) -> dict[str, Any]:
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

    def _judge(self, path: str) -> dict[str, Any]:
        scorer = self._subject.scorer
        if scorer is None:
            raise ValueError("a stage by itself judges no clips")
        try:
            frames = read_clip(Path(path), scorer.spec).frames
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
    """The most memory that this process had at once; ``None`` where the kernel does not say."""
    try:
        found = re.search(r"^VmHWM:\s+(\d+) kB$", Path("/proc/self/status").read_text(encoding="ascii"), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None


def main(orders: IO[str], answers: IO[str]) -> None:
    """Answers the lines of a stream until it ends.

    Args:
        orders: A job, then orders.
        answers: Where the answers go.
    """
    job, verb = Job.from_json(orders.readline()), "refused"
    try:
        with open_subject(job) as subject:
            performer = Performer(subject)
            _answer(answers, {"device": _device(job)})
            verb = "failed"
            for line in orders:
                _answer(answers, performer.obey(json.loads(line)))
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
