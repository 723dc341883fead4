"""Readiness: one probe, shared by everyone who asks, whose result is kept for a while."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import cv2
import numpy as np

from vdeploy.gateway.problems import Problem

__all__ = ["SharedProbe", "probe_video"]

_SIDE = 64
_FRAMES = 8


class SharedProbe:
    """Runs a probe at most once at a time, and answers from its last result in between. Used by one event loop.

    Args:
        probe: Raises `Problem` if something does not work.
        kept_s: Seconds for which a result, good or bad, is given to everyone who asks.
    """

    def __init__(self, probe: Callable[[], Awaitable[None]], kept_s: float = 5.0) -> None:
        self._probe = probe
        self._kept_s = kept_s
        self._task: asyncio.Task[None] | None = None
        self._result: Problem | None = None
        self._ended = float("-inf")

    async def check(self) -> None:
        """Return if the last probe succeeded; wait for one if there is none, or if it is old.

        Raises:
            Problem: It did not.
        """
        if time.monotonic() - self._ended > self._kept_s:
            if self._task is None:
                self._task = asyncio.create_task(self._run())
            await asyncio.shield(self._task)
        if self._result is not None:
            known = self._result
            raise Problem(known.status, known.code, known.message, known.hint, headers=known.headers)

    async def _run(self) -> None:
        try:
            await self._probe()
            self._result = None
        except Problem as problem:
            self._result = problem
        finally:
            self._ended, self._task = time.monotonic(), None


def probe_video() -> bytes:
    """A small video that every decoder of a gateway can decode: grey frames, Motion JPEG in AVI."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "probe.avi"
        writer = cv2.VideoWriter(str(path), cv2.CAP_OPENCV_MJPEG, cv2.VideoWriter.fourcc(*"MJPG"), 25.0, (_SIDE, _SIDE))
        for number in range(_FRAMES):
            writer.write(np.full((_SIDE, _SIDE, 3), 16 * number, np.uint8))
        writer.release()
        return path.read_bytes()
