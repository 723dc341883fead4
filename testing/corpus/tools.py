"""Calls of the ``ffmpeg`` and ``ffprobe`` programs."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

__all__ = ["ToolError", "are_installed", "decode", "ffmpeg", "probe_frames"]

_PATIENCE_S = 120


class ToolError(Exception):
    """One of the programs failed."""


def are_installed() -> bool:
    """Whether both programs are there."""
    return all(shutil.which(name) for name in ("ffmpeg", "ffprobe"))


def ffmpeg(*arguments: str | Path) -> None:
    """Runs ``ffmpeg`` on one thread, overwriting its output.

    Raises:
        ToolError: It failed.
    """
    _run("ffmpeg", "-nostdin", "-y", "-threads", "1", *arguments)


def decode(path: Path, *, as_shown: bool, deinterlace: bool) -> bytes:
    """All frames of a file's default video stream as raw RGB pictures, one after the other.

    Args:
        path: The file.
        as_shown: Whether the display matrix is applied.
        deinterlace: Whether interlaced frames are deinterlaced, one frame for each.

    Raises:
        ToolError: It cannot be decoded.
    """
    filters = ["-vf", "yadif=mode=send_frame:deint=interlaced"] if deinterlace else []
    turns = [] if as_shown else ["-noautorotate"]
    command: list[str | Path] = ["-nostdin", "-threads", "1", *turns, "-i", path, *filters, "-autoscale", "0"]
    return _run("ffmpeg", *command, "-vsync", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-")


def probe_frames(path: Path, stream: int) -> list[dict[str, Any]]:
    """What ``ffprobe`` says about each decoded frame of a stream: time, duration, size, interlacing."""
    entries = "frame=best_effort_timestamp_time,pkt_duration_time,width,height,interlaced_frame"
    command: list[str | Path] = ["-select_streams", str(stream), "-show_entries", entries, "-of", "json", path]
    frames: list[dict[str, Any]] = json.loads(_run("ffprobe", *command)).get("frames", [])
    return [frame for frame in frames if "width" in frame]


def _run(program: str, *arguments: str | Path) -> bytes:
    command = [program, "-v", "error", *map(str, arguments)]
    try:
        return subprocess.run(command, capture_output=True, check=True, timeout=_PATIENCE_S).stdout
    except subprocess.CalledProcessError as error:
        lines = error.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {error.returncode}"]
        raise ToolError(f"{' '.join(command)}: {lines[0]}") from error
