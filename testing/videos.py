"""Small videos whose frames carry their number as a picture, and ways to damage them."""

from __future__ import annotations

import fractions
import struct
from typing import TYPE_CHECKING

import av
import numpy as np

from vdeploy.video.pictures import filter_graph

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

__all__ = [
    "drop_tail",
    "numbered_frame",
    "promise_frames",
    "read_number",
    "rotate_mp4",
    "show_mp4",
    "solid_frame",
    "write_audio",
    "write_numbered",
    "write_video",
]

_GRID = 4
_BITS = _GRID * _GRID
_AVI_LENGTH_OFFSET = 40
_TKHD_MATRIX_OFFSET = 44
_ONE = 1 << 16
_MATRICES = {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}


def numbered_frame(number: int, width: int = 64, height: int = 48) -> np.ndarray:
    """A frame that shows the 16 bits of a number as a 4 x 4 board of dark and light fields.

    Returns:
        ``uint8[height, width, 3]`` RGB.
    """
    bits = np.array([235 if number >> bit & 1 else 16 for bit in range(_BITS)], np.uint8).reshape(_GRID, _GRID)
    rows, columns = np.arange(height) * _GRID // height, np.arange(width) * _GRID // width
    return np.repeat(bits[rows][:, columns, None], 3, axis=2)


def read_number(frame: np.ndarray) -> int:
    """The number that `numbered_frame` wrote, from a frame of any size that was compressed since."""
    height, width = frame.shape[:2]
    centres_y, centres_x = ((2 * np.arange(_GRID) + 1) * side // (2 * _GRID) for side in (height, width))
    lights = frame[centres_y][:, centres_x].mean(axis=2).ravel() > 125
    return int(sum(1 << bit for bit, light in enumerate(lights) if light))


def solid_frame(colour: tuple[int, int, int], width: int = 64, height: int = 48) -> np.ndarray:
    """A frame of one RGB colour, ``uint8[height, width, 3]``."""
    return np.full((height, width, 3), colour, np.uint8)


def write_video(
    path: Path,
    frames: Iterable[np.ndarray],
    *,
    codec: str = "mpeg4",
    pixel_format: str = "yuv420p",
    fps: int = 25,
    times_ms: Sequence[int] | None = None,
    container: str | None = None,
    fast_start: bool = False,
    field: str | None = None,
    **options: object,
) -> Path:
    """Writes a video.

    Args:
        path: The file; its suffix picks the container unless ``container`` does.
        frames: ``uint8[H, W, 3]`` RGB frames, all of the size of the first.
        codec: FFmpeg's name of an encoder.
        pixel_format: FFmpeg's name of a pixel format.
        fps: Frames per second.
        times_ms: Presentation time of each frame; makes the frame rate variable.
        container: FFmpeg's name of a container.
        fast_start: Put the index of an MP4 file in front of its content.
        field: ``"tff"`` or ``"bff"`` marks the frames as interlaced, with the top or the bottom field first.
        options: Options of the encoder, for example ``g=250`` (frames between key frames) and ``bf=2`` (B-frames).

    Returns:
        ``path``.
    """
    time_base = fractions.Fraction(1, fps if times_ms is None else 1000)
    muxer_options = {"movflags": "faststart"} if fast_start else {}
    with av.open(str(path), "w", format=container, container_options=muxer_options) as output:
        stream = output.add_stream(codec, rate=fps)
        stream.pix_fmt = pixel_format
        stream.codec_context.time_base = time_base
        stream.options = {key: str(value) for key, value in options.items()}
        for number, pixels in enumerate(frames):
            if number == 0:
                stream.height, stream.width = pixels.shape[:2]
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            if field:
                graph = filter_graph(frame, [("format", pixel_format), ("setfield", field)])
                graph.vpush(frame)
                frame = graph.vpull()
            frame.pts = number if times_ms is None else times_ms[number]
            frame.time_base = time_base
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return path


def write_numbered(path: Path, count: int, *, width: int = 64, height: int = 48, **arguments: object) -> Path:
    """Writes ``count`` frames, each with its own number to be read by `read_number`; arguments as for `write_video`."""
    frames = (numbered_frame(number, width, height) for number in range(count))
    return write_video(path, frames, **arguments)  # type: ignore[arg-type]


def write_audio(path: Path, *, codec: str = "aac", seconds: int = 1, rate: int = 16_000) -> Path:
    """Writes a file that holds silence and no video."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=rate)
        sample_format = stream.codec_context.format
        silence = np.zeros((1, rate * seconds), np.float32 if sample_format.is_planar else np.int16)
        frame = av.AudioFrame.from_ndarray(silence, format=sample_format.name, layout="mono")
        frame.rate = rate
        output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return path


def promise_frames(path: Path, count: int) -> Path:
    """Makes the header of an AVI file promise another number of frames than it holds."""
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, content.index(b"strh") + _AVI_LENGTH_OFFSET, count)
    path.write_bytes(content)
    return path


def drop_tail(path: Path, keep: float) -> Path:
    """Cuts a file off after a share of its bytes."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    return path


def rotate_mp4(path: Path, degrees: int) -> Path:
    """Marks an MP4 file to be shown turned clockwise by 90, 180 or 270 degrees; the stored pictures stay."""
    return show_mp4(path, _MATRICES[degrees])


def show_mp4(path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """Marks an MP4 file to be shown by a display matrix: a, b, c, d of x' = ax + cy, y' = bx + dy."""
    content = bytearray(path.read_bytes())
    a, b, c, d = (value * _ONE for value in matrix)
    start = content.index(b"tkhd") + _TKHD_MATRIX_OFFSET
    struct.pack_into(">9i", content, start, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    return path
