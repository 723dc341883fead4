"""Deinterlacing of single frames by FFmpeg's ``yadif`` filter over a frame and its two neighbours."""

from __future__ import annotations

import av

from vdeploy.video.pictures import ConversionError, filter_graph

__all__ = ["deinterlace"]

_ARGUMENTS = "mode=send_frame:parity=auto:deint=all"


def deinterlace(before: av.VideoFrame | None, frame: av.VideoFrame, after: av.VideoFrame | None) -> av.VideoFrame:
    """Makes a progressive frame of an interlaced one, in the field order that the frame states.

    The result is that of ``yadif=mode=send_frame:deint=interlaced`` over the whole video; a neighbour that is missing
    or of another size or pixel format counts as the beginning or the end of the video.

    Args:
        before: The frame that is shown before it.
        frame: An interlaced frame.
        after: The frame that is shown after it.

    Returns:
        The lines of both fields at the time of the first field.

    Raises:
        ConversionError: The filter cannot process it.
    """
    frames = [one for one in (before, frame, after) if one is not None and _is_alike(one, frame)]
    position = next(number for number, one in enumerate(frames) if one is frame)
    try:
        graph = filter_graph(frame, [("yadif", _ARGUMENTS)])
        for one in frames:
            graph.vpush(one)
        graph.vpush(None)
        for _ in range(position):
            graph.vpull()
        return graph.vpull()
    except (av.error.FFmpegError, ValueError, MemoryError) as error:
        raise ConversionError(f"interlaced, pixel format {frame.format.name}") from error


def _is_alike(one: av.VideoFrame, other: av.VideoFrame) -> bool:
    return (one.width, one.height, one.format.name) == (other.width, other.height, other.format.name)
