"""Cuts the events of a timeline out of a video, each into a file of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from vdeploy.core.errors import TimelineError
from vdeploy.core.files import staging_folder
from vdeploy.timeline.writing import FrameWriter, open_writer
from vdeploy.video.workers.remote_reader import RemoteReader

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from vdeploy.timeline.timeline import Timeline

__all__ = ["cut_events", "cut_span", "frames_from"]

_ASSUMED_FPS = 25.0


def cut_events(video: Path, timeline: Timeline, folder: Path, *, margin_s: float = 0.0) -> Iterator[Path]:
    """Writes each event of a video as an MP4 file: H.264, or MPEG-4 where FFmpeg lacks its encoder; without sound.

    Args:
        video: The video of the timeline.
        timeline: Its events.
        folder: Where the files go; it is made. Their names are the video's, with number and start of the event.
        margin_s: What to show before and after an event, in seconds.

    Yields:
        Each file, once it is complete.

    Raises:
        ClipError: The video cannot be read.
        TimelineError: A file cannot be written.
    """
    with RemoteReader(video) as reader:
        for number, event in enumerate(timeline.events, start=1):
            file = folder / f"{video.stem}-event{number:02d}-{_stamp(event.start_s)}.mp4"
            cut_span(reader, max(event.start_s - margin_s, 0.0), event.end_s + margin_s, file)
            yield file


def cut_span(reader: RemoteReader, start_s: float, end_s: float, file: Path) -> None:
    """Writes a part of a video as an MP4 file, which is there when it is complete.

    Args:
        reader: The open video.
        start_s: Where the part begins, in seconds from the first frame.
        end_s: Where it ends; a frame that is shown then is not in it.
        file: The file to write; its folder is made.

    Raises:
        ClipError: The video cannot be read.
        TimelineError: The file cannot be written, or the video holds no frame in that time.
    """
    with staging_folder(file) as staged:
        _write_span(reader, start_s, end_s, staged / file.name)
        (staged / file.name).replace(file)


def _write_span(reader: RemoteReader, start_s: float, end_s: float, file: Path) -> None:
    fps = reader.fps or _ASSUMED_FPS
    with contextlib.ExitStack() as stack:
        writer: FrameWriter | None = None
        for shown_s in frames_from(reader, start_s):
            if shown_s >= end_s:
                break
            picture = _even(reader.picture())
            if writer is None:
                writer = stack.enter_context(open_writer(file, fps, picture.shape[1], picture.shape[0]))
            writer.write(picture)
    if not file.is_file() or not file.stat().st_size:
        raise TimelineError(
            f"no frame of {reader.path} lies between {start_s:.1f} and {end_s:.1f} s",
            "give the timeline's own video",
        )


def frames_from(reader: RemoteReader, start_s: float) -> Iterator[float]:
    """Goes to the first frame that is shown at a time or after it, by a jump to a key frame where that comes before.

    Yields:
        When that frame and each one after it is shown, in seconds from the first frame; the reader then stands at it.
    """
    fps = reader.fps or _ASSUMED_FPS
    reader.restart()
    if not reader.grab():
        return
    origin_s = reader.time_us / 1e6
    reader.seek(round((start_s + origin_s) * 1e6))
    if not reader.grab() or reader.time_us / 1e6 - origin_s > start_s:
        reader.restart()
        reader.grab()
    last_s = -1 / fps
    while True:
        stated_s = reader.time_us / 1e6 - origin_s
        last_s = stated_s if stated_s > last_s else last_s + 1 / fps
        if last_s >= start_s - 0.5 / fps:
            yield last_s
        if not reader.grab():
            return


def _even(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Without the last row or column where their number is odd, which video with halved colour cannot hold."""
    height, width = picture.shape[:2]
    return picture[: max(height // 2 * 2, 2), : max(width // 2 * 2, 2)]


def _stamp(seconds: float) -> str:
    whole = int(seconds)
    return f"{whole // 3600:02d}h{whole // 60 % 60:02d}m{whole % 60:02d}s"
