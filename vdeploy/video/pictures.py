"""Decoded frames as upright RGB pictures, and their resizing: the only place where pixels change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, cast

import av
import cv2
import numpy as np
from av.filter import Graph
from av.sidedata.sidedata import Type
from av.video.reformatter import VideoReformatter

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

__all__ = ["ConversionError", "Fit", "PictureConverter", "filter_graph", "resize"]

Fit = Literal["squeeze", "letterbox"]
"""How a picture becomes a square: ``"squeeze"`` resizes each axis by itself; ``"letterbox"`` keeps the aspect ratio of
the stored pixels and puts black bars, alike but for one pixel, above and below or left and right."""

_SWAPPED = {f"{order}{depth}be": f"{order}{depth}le" for order in ("rgb", "bgr") for depth in (444, 555, 565)}
"""Packed formats whose bytes FFmpeg 8.1 does not swap on the way to RGB; they are swapped first."""

_PLAIN = frozenset({"yuv420p", "yuvj420p"})
"""Formats that FFmpeg's scaler by itself converts like the filter, bit by bit, where width and height are even."""

_TURNS = {90: (0, -1, 1, 0), 180: (-1, 0, 0, -1), -180: (-1, 0, 0, -1), -90: (0, 1, -1, 0)}
"""Display matrix by its counterclockwise rotation in degrees."""

_UPRIGHT = (1, 0, 0, 1)


class ConversionError(Exception):
    """FFmpeg cannot convert the pixels of a frame."""


class PictureConverter:
    """Converts frames to RGB as the ``ffmpeg`` program does, by the ``scale`` filter on one thread.

    Most videos need no filter: the scaler gives the same pixels, and is ready at once.
    """

    def __init__(self) -> None:
        self._scaler = VideoReformatter()
        self._graph: Graph | None = None
        self._layout: tuple[object, ...] = ()

    def rgb(self, frame: av.VideoFrame, shown: av.VideoFrame | None = None) -> npt.NDArray[np.uint8]:
        """Converts a frame to an upright picture.

        Args:
            frame: A progressive frame.
            shown: The frame whose display matrix holds; ``frame`` if left out.

        Returns:
            ``uint8[H, W, 3]`` RGB in the size in which the frame is shown. It may share the frame's memory.

        Raises:
            ConversionError: FFmpeg has no conversion for its pixel format.
        """
        try:
            converted = self._scaled(frame) if _is_plain(frame) else self._filtered(frame)
        except (av.error.FFmpegError, ValueError, MemoryError) as error:
            self._graph = None
            raise ConversionError(f"pixel format {frame.format.name}") from error
        return _turn(_pixels(converted), _display_matrix(frame if shown is None else shown))

    def _scaled(self, frame: av.VideoFrame) -> av.VideoFrame:
        return self._scaler.reformat(frame, format="rgb24", threads=1)

    def _filtered(self, frame: av.VideoFrame) -> av.VideoFrame:
        layout = (frame.width, frame.height, frame.format.name, int(frame.colorspace), int(frame.color_range))
        if self._graph is None or layout != self._layout:
            swapped = [("format", _SWAPPED[frame.format.name])] if frame.format.name in _SWAPPED else []
            self._graph, self._layout = filter_graph(frame, [*swapped, ("format", "rgb24")]), layout
        self._graph.vpush(frame)
        return self._graph.vpull()


def filter_graph(frame: av.VideoFrame, filters: Sequence[tuple[str, str]]) -> Graph:
    """Builds a chain of FFmpeg's filters that runs on one thread.

    Args:
        frame: A frame like those that it is for.
        filters: Name and arguments of each.

    Returns:
        The chain, ready for frames.
    """
    graph = Graph()
    graph.threads = 1
    source = graph.add(
        "buffer",
        f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}:time_base=1/90000:pixel_aspect=1/1"
        f":colorspace={int(frame.colorspace)}:range={int(frame.color_range)}",
    )
    graph.link_nodes(source, *(graph.add(*one) for one in filters), graph.add("buffersink")).configure()
    return graph


def resize(
    picture: npt.NDArray[np.uint8], size: int, fit: Fit = "squeeze", out: npt.NDArray[np.uint8] | None = None
) -> npt.NDArray[np.uint8]:
    """Shrinks the axes that are too long by averaging areas, then enlarges those that are too short bilinearly.

    Args:
        picture: ``uint8[H, W, 3]``.
        size: Pixels of a side, S.
        fit: How the picture becomes a square.
        out: ``uint8[S, S, 3]``, C-contiguous; where to write the result.

    Returns:
        ``out``, or a new array of its shape.
    """
    if out is None:
        out = np.empty((size, size, 3), np.uint8)
    height, width = picture.shape[:2]
    if fit == "letterbox" and height != width:
        longest = max(height, width)
        rows, columns = (max(1, (2 * side * size + longest) // (2 * longest)) for side in (height, width))
        top, left = (size - rows) // 2, (size - columns) // 2
        out[:] = 0
        out[top : top + rows, left : left + columns] = _resized(picture, rows, columns)
        return out
    return _resized(picture, size, size, out)


def _resized(
    picture: npt.NDArray[np.uint8], rows: int, columns: int, out: npt.NDArray[np.uint8] | None = None
) -> npt.NDArray[np.uint8]:
    if out is None:
        out = np.empty((rows, columns, 3), np.uint8)
    height, width = picture.shape[:2]
    if height >= rows and width >= columns and (height, width) != (rows, columns):
        cv2.resize(picture, (columns, rows), dst=out, interpolation=cv2.INTER_AREA)
        return out
    if height > rows or width > columns:
        shrunk = cv2.resize(picture, (min(width, columns), min(height, rows)), interpolation=cv2.INTER_AREA)
        picture = cast("npt.NDArray[np.uint8]", shrunk)
    if picture.shape[:2] == (rows, columns):
        out[:] = picture
    else:
        cv2.resize(picture, (columns, rows), dst=out, interpolation=cv2.INTER_LINEAR)
    return out


def _is_plain(frame: av.VideoFrame) -> bool:
    return frame.format.name in _PLAIN and frame.width % 2 == frame.height % 2 == 0


def _pixels(frame: av.VideoFrame) -> npt.NDArray[np.uint8]:
    """The memory of an RGB frame as ``uint8[H, W, 3]``; rows may be stored from the bottom up."""
    plane = frame.planes[0]
    stride = abs(plane.line_size)
    rows = np.frombuffer(plane, np.uint8).reshape(frame.height, stride)
    pixels = rows[:, : 3 * frame.width].reshape(frame.height, frame.width, 3)
    return pixels if plane.line_size > 0 else np.ascontiguousarray(pixels[::-1])


def _display_matrix(frame: av.VideoFrame) -> tuple[int, int, int, int]:
    """The 2 x 2 part (a, b, c, d) of the matrix that maps stored to shown coordinates: x' = ax + cy, y' = bx + dy."""
    try:
        data = frame.side_data.get(Type.DISPLAYMATRIX)
    except ValueError:  # side data of a kind that this PyAV has no name for
        return _TURNS.get(round(frame.rotation / 90) * 90, _UPRIGHT)
    if data is None:
        return _UPRIGHT
    a, b, _, c, d = np.frombuffer(data, np.int32)[:5].tolist()
    return a, b, c, d


def _turn(picture: npt.NDArray[np.uint8], matrix: tuple[int, int, int, int]) -> npt.NDArray[np.uint8]:
    """Shows a picture by a display matrix, rounded to the nearest of the eight that map the axes onto each other."""
    a, b, c, d = matrix
    if abs(b) + abs(c) > abs(a) + abs(d):
        picture = cast("npt.NDArray[np.uint8]", cv2.transpose(picture))
        mirrored, upside_down = c < 0, b < 0
    else:
        mirrored, upside_down = a < 0, d < 0
    if mirrored and upside_down:
        return cast("npt.NDArray[np.uint8]", cv2.flip(picture, -1))
    if mirrored or upside_down:
        return cast("npt.NDArray[np.uint8]", cv2.flip(picture, 1 if mirrored else 0))
    return picture
