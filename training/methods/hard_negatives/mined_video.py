"""What mining found in one video, and the file that keeps it, so that an interrupted search goes on after it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from training.methods.hard_negatives.selection import MinedWindow
from vdeploy.core.files import atomic_write

__all__ = ["MinedVideo", "video_key"]

_FORMAT = 1
"""Counts up when the content of the files, or what they are made by, changes."""


@dataclasses.dataclass(frozen=True, eq=False)
class MinedVideo:
    """What mining found in one video.

    Attributes:
        path: The video, absolute.
        duration_s: How much of it was seen, in seconds.
        windows: Number of its windows.
        false_alarms: Events in it, by the rule of `vdeploy predict` at the bundle's threshold.
        peak: The highest score of all windows; 0 without one.
        warnings: What is odd about the video.
        hardest: Its diverse windows with the highest scores, the highest first.
    """

    path: str
    duration_s: float
    windows: int
    false_alarms: int
    peak: float
    warnings: tuple[str, ...]
    hardest: tuple[MinedWindow, ...]

    def save(self, file: Path) -> None:
        """Writes a NumPy archive, atomically."""
        facts = {name: getattr(self, name) for name in _FACTS}
        with atomic_write(file) as handle:
            np.savez(
                handle,
                facts=np.array(json.dumps(facts)),
                spans=np.array([(window.start_s, window.end_s, window.score) for window in self.hardest]).reshape(
                    -1, 3
                ),
                features=np.array([window.features for window in self.hardest], np.float32),
            )

    @classmethod
    def load(cls, file: Path) -> MinedVideo | None:
        """Reads what `save` wrote; ``None`` if it is not there or is damaged."""
        try:
            with file.open("rb") as handle, np.load(handle, allow_pickle=False) as archive:
                facts: dict[str, Any] = json.loads(str(archive["facts"]))
                spans, features = archive["spans"], archive["features"]
            hardest = tuple(
                MinedWindow(facts["path"], float(start_s), float(end_s), float(score), row)
                for (start_s, end_s, score), row in zip(spans, features, strict=True)
            )
            return cls(**{**facts, "warnings": tuple(facts["warnings"])}, hardest=hardest)
        except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
            return None


_FACTS = ("path", "duration_s", "windows", "false_alarms", "peak", "warnings")


def video_key(path: Path, settings: dict[str, Any]) -> str:
    """Names the result of a video: another one for other settings, or after the file has changed.

    Args:
        path: The video.
        settings: Everything else that the result depends on, as JSON holds it.

    Returns:
        16 hex digits.

    Raises:
        OSError: The file is not there.
    """
    status = path.stat()
    identity = [_FORMAT, os.path.abspath(path), status.st_size, status.st_mtime_ns, settings]  # noqa: PTH100  follows no links
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
