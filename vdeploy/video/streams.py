"""Which of the streams of a container is the video, and what the container says about it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from av.stream import Disposition

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

__all__ = ["choose_stream", "other_streams", "stated_duration_s", "stated_frames"]

_DEFAULT_SCORE = 5_000_000
_HEADER_SLACK_FRAMES = 2
"""AVI headers count up to so many frames more than their index lists, where there is sound or a packed bitstream."""

_COMMON_DURATION = {"asf"}
"""Formats that give every stream the duration of the longest."""

_STAMP = re.compile(r"(\d+):(\d+):(\d+(?:\.\d+)?)")


def choose_stream(container: InputContainer) -> VideoStream | None:
    """Picks the video stream that the ``ffmpeg`` program picks: the largest picture, the default stream above all.

    Cover pictures are not videos.

    Args:
        container: An open file or live source.

    Returns:
        The stream; ``None`` if there is no video.
    """
    videos = [stream for stream in container.streams.video if _is_video(stream)]
    return max(videos, key=_score, default=None)


def other_streams(container: InputContainer, chosen: VideoStream) -> list[VideoStream]:
    """The video streams that `choose_stream` left out."""
    return [stream for stream in container.streams.video if _is_video(stream) and stream.index != chosen.index]


def stated_frames(stream: VideoStream) -> int:
    """Frames that the container promises to show, without those that an edit list cuts off; 0 if it says nothing."""
    if stream.frames <= 0:
        return 0
    entries = stream.index_entries
    stated = len(entries) if 0 < stream.frames - len(entries) <= _HEADER_SLACK_FRAMES else stream.frames
    if stream.duration and stream.time_base and stream.guessed_rate:
        shown = stream.duration * stream.time_base * stream.guessed_rate
        if abs(shown - stream.frames) <= 1:  # nothing is cut off; a long index takes long to go through
            return stated
    return max(stated - sum(entry.is_discard for entry in entries), 0)


def stated_duration_s(container: InputContainer, stream: VideoStream) -> float:
    """Seconds that the container states for its video, not for its sound; 0 if it says nothing."""
    is_alone = all(other.type != "audio" for other in container.streams)
    if stream.duration and stream.time_base and (is_alone or container.format.name not in _COMMON_DURATION):
        return max(float(stream.duration * stream.time_base), 0.0)
    if stamp := _STAMP.match(stream.metadata.get("DURATION", "")):
        hours, minutes, seconds = stamp.groups()
        start_s = float((stream.start_time or 0) * (stream.time_base or 0))
        return max(int(hours) * 3600 + int(minutes) * 60 + float(seconds) - max(start_s, 0.0), 0.0)
    return max(container.duration / 1e6, 0.0) if is_alone and container.duration else 0.0


def _is_video(stream: VideoStream) -> bool:
    is_cover = stream.disposition & (Disposition.attached_pic | Disposition.timed_thumbnails)
    return not is_cover and stream.codec_context is not None


def _score(stream: VideoStream) -> int:
    is_default = bool(stream.disposition & Disposition.default)
    return stream.width * stream.height + _DEFAULT_SCORE * is_default
