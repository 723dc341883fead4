"""OpenCV on one thread for as long as somebody decodes in threads of their own."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import cv2

__all__ = ["one_opencv_thread"]


class _OpenCVThreads:
    """Counts who wants OpenCV on one thread; the setting belongs to the whole process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holders = 0
        self._before = 0

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            if self._holders == 0:
                self._before = cv2.getNumThreads()
                cv2.setNumThreads(1)
            self._holders += 1
        try:
            yield
        finally:
            with self._lock:
                self._holders -= 1
                if self._holders == 0:
                    cv2.setNumThreads(self._before)


one_opencv_thread = _OpenCVThreads()
