"""Frames of a long video by jumps to key frames, checked to be those that reading through would give."""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vdeploy.video.reader import VideoReader

__all__ = ["LEAD_FRAMES", "PacketList", "visit_frames"]

LEAD_FRAMES = 2
"""Frames that are decoded between a key frame and a wanted one, so that deinterlacing finds its neighbour."""


@dataclasses.dataclass(frozen=True)
class PacketList:
    """The packets of a video in presentation order.

    Attributes:
        times_us: Presentation times in microseconds from the start of the stream, ascending.
        keys: Numbers of the packets that hold key frames, ascending.
    """

    times_us: list[int]
    keys: list[int]

    @classmethod
    def read(cls, reader: VideoReader) -> PacketList:
        """Lists the packets of a video without decoding them, and goes back to its start."""
        packets = sorted(reader.packets())
        reader.restart()
        return cls([time for time, _ in packets], [number for number, (_, is_key) in enumerate(packets) if is_key])

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.times_us)

    def key_before(self, number: int) -> int:
        """The last key frame at or before a frame, -1 if there is none."""
        position = bisect.bisect_right(self.keys, number)
        return self.keys[position - 1] if position else -1


def visit_frames(
    reader: VideoReader, packets: PacketList, wanted: Sequence[int], visit: Callable[[int], object]
) -> bool:
    """Decodes only the stretches of a video that lead to wanted frames.

    The first and the last frame are visited as well, to check that the list begins and ends where decoding does.

    Args:
        reader: The video, at its start.
        packets: Its packets.
        wanted: Numbers of frames.
        visit: Called with the number of each wanted frame, in order, when it has just been grabbed.

    Returns:
        Whether all went as the packets promise; ``False`` also where jumping would not save half of the decoding. Then
        what was visited is to be forgotten.
    """
    numbers = {time: number for number, time in enumerate(packets.times_us)}
    if len(numbers) < packets.count:
        return False
    stops = _plan(packets, sorted({0, *wanted, packets.count - 1}))
    if stops is None:
        return False
    position = -1
    for number, key in stops:
        if key is not None:
            reader.seek(packets.times_us[key])
            position = _grab(reader, numbers)
        while position < number:
            following = position + 1
            position = _grab(reader, numbers)
            if position != following:
                return False
        if position != number:
            return False
        if number in wanted:
            visit(number)
    return not reader.grab()


def _plan(packets: PacketList, numbers: list[int]) -> list[tuple[int, int | None]] | None:
    """The frames to stop at, each with the key frame to jump to before it, or ``None`` to decode on from the last stop.

    Returns:
        ``None`` if that would not save half of the decoding.
    """
    stops: list[tuple[int, int | None]] = []
    decoded, position = 0, -1
    for number in numbers:
        key = packets.key_before(number - LEAD_FRAMES)
        jumps = key > position
        stops.append((number, key if jumps else None))
        decoded += number - (key if jumps else position)
        position = number
    return stops if 2 * decoded < packets.count else None


def _grab(reader: VideoReader, numbers: dict[int, int]) -> int:
    """Number of the next frame, by its time; -1 if there is none or its time is not that of any packet."""
    return numbers.get(reader.time_us, -1) if reader.grab() else -1
