"""The frames of a video that a clip consists of: which they are, and how they are found.

Which frames: of the n frames that can be decoded, in presentation order, frame i of the T wanted ones is number
``floor((i + 0.5) * n / T)``, the middle of the i-th of T equal parts. Time stamps play no part in that choice, so a
variable frame rate needs no special care. n is counted, never believed: a header that promises too many frames, too
few or none changes nothing but a warning.

How they are found: short videos are decoded from the first frame to the last, and only the wanted frames are converted
to RGB. In long videos the packets are listed first, without decoding them. Where their presentation times are all
different, a frame can be told by its time; then the decoder jumps to the key frame before each wanted frame, checks the
time of every frame from there on, and decodes the rest of the stretch only. The first and the last frame are visited as
well, to check that the list begins and ends where decoding does. At the first surprise the whole video is decoded from
beginning to end instead, so for an intact video the answer is the same either way. In a long video with damage between
the visited stretches, frames that are lost there still count.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vdeploy.core.errors import ClipError
from vdeploy.video.seeking import PacketList, visit_frames

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from vdeploy.video.pictures import Fit
    from vdeploy.video.reader import VideoReader

__all__ = ["frame_indices", "read_frames"]

LONG_GAP_FRAMES = 64
"""From this mean distance between wanted frames on, seeking is considered."""

_PASSES = 3


def frame_indices(available: int, wanted: int) -> list[int]:
    """Numbers of the frames in the middle of ``wanted`` equal parts of a video.

    Args:
        available: Frames in the video, n.
        wanted: Frames to take, T.

    Returns:
        T numbers from 0 to n - 1, in order: ``floor((i + 0.5) * n / T)``; each one where n = T, some more than once
        where n < T. Empty if n is 0.

    Example:
        >>> frame_indices(41, 4)
        [5, 15, 25, 35]
    """
    return [(2 * i + 1) * available // (2 * wanted) for i in range(wanted)] if available > 0 else []


def read_frames(
    reader: VideoReader, samples: int, size: int, fit: Fit, stated: int
) -> tuple[npt.NDArray[np.uint8], int]:
    """Decode the wanted frames of a video.

    Args:
        reader: The video, just opened.
        samples: Frames to take, T.
        size: Height and width in pixels.
        fit: How a picture becomes a square.
        stated: Frames that the container claims; 0 if it says nothing.

    Returns:
        ``uint8[T, H, W, 3]`` RGB, and how many frames the video holds.

    Raises:
        ClipError: No frame of it can be decoded.
        vdeploy.video.reader.Stopped: The reader was stopped.
    """
    guess, found = stated, None
    if stated == 0 or _is_long(stated, samples):
        packets = PacketList.read(reader)
        guess = packets.count
        found = _read_by_seeking(reader, samples, size, fit, packets) if _is_long(guess, samples) else None
    return found or _read_through(reader, samples, size, fit, guess)


def _is_long(count: int, samples: int) -> bool:
    return count >= LONG_GAP_FRAMES * samples


class _Kept:
    """The wanted frames of a video, resized in one array as they come.

    Args:
        numbers: Numbers of the wanted frames, ascending; some may come more than once.
        size: Height and width in pixels.
        fit: How a picture becomes a square.
    """

    def __init__(self, numbers: Sequence[int], size: int, fit: Fit) -> None:
        self._rows = {number: row for row, number in enumerate(sorted(set(numbers)))}
        self._frames = np.empty((len(self._rows), size, size, 3), np.uint8)
        self._size, self._fit = size, fit
        self._found: set[int] = set()

    def __contains__(self, number: int) -> bool:
        return number in self._rows

    def take(self, number: int, reader: VideoReader) -> None:
        """Keeps the frame that the reader has grabbed."""
        reader.retrieve(self._size, self._fit, self._frames[self._rows[number]])
        self._found.add(number)

    def frames(self, numbers: Sequence[int]) -> npt.NDArray[np.uint8] | None:
        """The frames of these numbers, or ``None`` if one of them was not kept."""
        if not self._found.issuperset(numbers):
            return None
        rows = [self._rows[number] for number in numbers]
        return self._frames if rows == list(range(len(self._frames))) else self._frames[rows]


def _read_through(
    reader: VideoReader, samples: int, size: int, fit: Fit, guess: int
) -> tuple[npt.NDArray[np.uint8], int]:
    """Decodes a video from the first frame to the last, and once more if there were not as many as guessed."""
    count = guess
    for _ in range(_PASSES):
        kept, count = _pass(reader, frame_indices(count, samples), size, fit)
        if count == 0:
            raise ClipError(reader.path, "holds no frame that can be decoded")
        frames = kept.frames(frame_indices(count, samples))
        if frames is not None:
            return frames, count
    raise ClipError(reader.path, "changes while it is being read")


def _pass(reader: VideoReader, wanted: Sequence[int], size: int, fit: Fit) -> tuple[_Kept, int]:
    kept = _Kept(wanted, size, fit)
    count = 0
    reader.restart()
    while reader.grab():
        if count in kept:
            kept.take(count, reader)
        count += 1
    return kept, count


def _read_by_seeking(
    reader: VideoReader, samples: int, size: int, fit: Fit, packets: PacketList
) -> tuple[npt.NDArray[np.uint8], int] | None:
    """Decodes only the stretches that lead to wanted frames; ``None`` where the packets do not tell the frames."""
    wanted = frame_indices(packets.count, samples)
    kept = _Kept(wanted, size, fit)
    whole = visit_frames(reader, packets, wanted, lambda number: kept.take(number, reader))
    frames = kept.frames(wanted) if whole else None
    return None if frames is None else (frames, packets.count)
