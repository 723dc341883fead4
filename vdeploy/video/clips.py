"""Any video file in, ``uint8[T, H, W, 3]`` RGB frames out: the one decoder of the whole system.

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

import dataclasses
import hashlib
import json
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vdeploy.core.errors import ClipError
from vdeploy.video.file_checks import check_file, is_iso
from vdeploy.video.reader import VideoReader
from vdeploy.video.seeking import PacketList, visit_frames

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

__all__ = ["Clip", "ClipSpec", "frame_indices", "read_clip"]

DECODER_REVISION = 2
"""Counts changes of the decoder that change frames. 2: interlaced video is deinterlaced, all eight orientations are
applied, and frames of more than 8 bits or of 4:1:1 colour are converted as by FFmpeg's ``scale`` filter."""

LONG_GAP_FRAMES = 64
"""From this mean distance between wanted frames on, seeking is considered."""

_PASSES = 3


@dataclasses.dataclass(frozen=True)
class ClipSpec:
    """How a video becomes the frames that the network sees.

    Attributes:
        frames: Frames taken from a clip, T.
        size: Height and width of a frame in pixels, H = W; the aspect ratio is not kept.
        sampling: ``"uniform"``: the middle frames of T equal parts of the clip.
        interpolation: ``"area"``: pixel area averaging when shrinking, bilinear when enlarging.
        views: Samplings of T frames to take in one decoding, V; see `vdeploy.video.temporal_views`.
    """

    frames: int = 16
    size: int = 224
    sampling: str = "uniform"
    interpolation: str = "area"
    views: int = 1

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise ValueError(f"frames must be at least 1, not {self.frames}")
        if self.views < 1:
            raise ValueError(f"views must be at least 1, not {self.views}")
        if self.size < 32:
            raise ValueError(f"size must be at least 32 pixels, VGG19's smallest input, not {self.size}")
        if self.sampling != "uniform":
            raise ValueError(f"sampling must be 'uniform', not {self.sampling!r}")
        if self.interpolation != "area":
            raise ValueError(f"interpolation must be 'area', not {self.interpolation!r}")

    def to_dict(self) -> dict[str, Any]:
        """The fields that say what a network sees as JSON-ready values: all but ``views``."""
        values = dataclasses.asdict(self)
        del values["views"]
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ClipSpec:
        """Makes a spec from what `to_dict` gave."""
        return cls(**values)

    @property
    def digest(self) -> str:
        """SHA-256 of the spec and the decoder's revision in canonical JSON; it keys the feature store."""
        values = {**self.to_dict(), "decoder": DECODER_REVISION}
        canonical = json.dumps(values, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    @property
    def samples(self) -> int:
        """Frames to take in one decoding, V * T."""
        return self.views * self.frames


@dataclasses.dataclass(frozen=True, eq=False)
class Clip:
    """The frames of one video, and what was noticed on the way.

    Attributes:
        frames: ``uint8[V * T, H, W, 3]`` RGB, upright, C-contiguous, in presentation order: the views in turn.
        decoded_frames: Frames that the file really holds.
        header_frames: Frames that the container claims; 0 if it says nothing, as only AVI and MP4/MOV store a count.
        fps: Mean frames per second according to the container; 0 if it says nothing.
        warnings: Short sentences about what a user may want to know, without the file's name.
    """

    frames: npt.NDArray[np.uint8]
    decoded_frames: int
    header_frames: int
    fps: float
    warnings: tuple[str, ...]


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


def read_clip(
    path: Path | str,
    spec: ClipSpec = ClipSpec(),
    *,
    max_pixels: int | None = None,
    stop: threading.Event | None = None,
) -> Clip:
    """Decodes the frames of one video that the network sees, in this process.

    A defect of the decoder ends the process; `vdeploy.video.workers.clips` decodes files apart from it.

    Frames are upright (orientation metadata is applied) and resized to ``spec.size`` without keeping the aspect ratio.
    An axis that shrinks is averaged over pixel areas, one that grows is interpolated. Nothing is written to stderr.
    Safe to call from several threads.

    Args:
        path: A video file of any kind that FFmpeg reads.
        spec: Number and size of the frames.
        max_pixels: Largest width times height of a frame; ``None`` for no limit.
        stop: Set to give up.

    Returns:
        The clip; see `frame_indices` for which frames it holds.

    Raises:
        ClipError: The file is missing, empty, no video, or no frame of it can be decoded.
        vdeploy.video.reader.Stopped: ``stop`` was set.
    """
    path = Path(path)
    head = check_file(path)
    with VideoReader(path, stop or threading.Event(), max_pixels) as reader:
        fps = reader.fps
        header = reader.frame_count if _stores_count(head) else 0
        guess, found = header, None
        if header == 0 or _is_long(header, spec):
            packets = PacketList.read(reader)
            guess = packets.count
            found = _read_by_seeking(reader, spec, packets) if _is_long(guess, spec) else None
        frames, count = found or _read_through(reader, spec, guess)
        warnings = [*reader.warnings, *_warnings(count, header, spec.frames, reader.damage)]
    return Clip(
        frames=frames,
        decoded_frames=count,
        header_frames=header,
        fps=fps,
        warnings=tuple(warnings),
    )


def _is_long(count: int, spec: ClipSpec) -> bool:
    return count >= LONG_GAP_FRAMES * spec.samples


def _warnings(count: int, header: int, wanted: int, damage: str) -> Iterator[str]:
    if count < header:
        yield f"only {count} of the {header} frames that its header promises can be decoded"
    elif 0 < header < count:
        yield f"its header promises {header} frames, but {count} can be decoded"
    elif damage:
        yield damage
    if count < wanted:
        held = "a single frame" if count == 1 else f"only {count} frames"
        yield f"it holds {held} for the {wanted} asked for, so frames are repeated"
    elif count == 1:
        yield "it holds a single frame"


def _stores_count(head: bytes) -> bool:
    return is_iso(head) or (head.startswith(b"RIFF") and head[8:12] == b"AVI ")


class _Kept:
    """The wanted frames of a video, resized in one array as they come.

    Args:
        numbers: Numbers of the wanted frames, ascending; some may come more than once.
        size: Height and width in pixels.
    """

    def __init__(self, numbers: Sequence[int], size: int) -> None:
        self._rows = {number: row for row, number in enumerate(sorted(set(numbers)))}
        self._frames = np.empty((len(self._rows), size, size, 3), np.uint8)
        self._size = size
        self._found: set[int] = set()

    def __contains__(self, number: int) -> bool:
        return number in self._rows

    def take(self, number: int, reader: VideoReader) -> None:
        """Keeps the frame that the reader has grabbed."""
        reader.retrieve(self._size, self._frames[self._rows[number]])
        self._found.add(number)

    def frames(self, numbers: Sequence[int]) -> npt.NDArray[np.uint8] | None:
        """The frames of these numbers, or ``None`` if one of them was not kept."""
        if not self._found.issuperset(numbers):
            return None
        rows = [self._rows[number] for number in numbers]
        return self._frames if rows == list(range(len(self._frames))) else self._frames[rows]


def _read_through(reader: VideoReader, spec: ClipSpec, guess: int) -> tuple[npt.NDArray[np.uint8], int]:
    """Decodes a video from the first frame to the last, and once more if there were not as many as guessed."""
    count = guess
    for _ in range(_PASSES):
        kept, count = _pass(reader, frame_indices(count, spec.samples), spec.size)
        if count == 0:
            raise ClipError(reader.path, "holds no frame that can be decoded")
        frames = kept.frames(frame_indices(count, spec.samples))
        if frames is not None:
            return frames, count
    raise ClipError(reader.path, "changes while it is being read")


def _pass(reader: VideoReader, wanted: Sequence[int], size: int) -> tuple[_Kept, int]:
    kept = _Kept(wanted, size)
    count = 0
    reader.restart()
    while reader.grab():
        if count in kept:
            kept.take(count, reader)
        count += 1
    return kept, count


def _read_by_seeking(
    reader: VideoReader, spec: ClipSpec, packets: PacketList
) -> tuple[npt.NDArray[np.uint8], int] | None:
    """Decodes only the stretches that lead to wanted frames; ``None`` where the packets do not tell the frames."""
    wanted = frame_indices(packets.count, spec.samples)
    kept = _Kept(wanted, spec.size)
    whole = visit_frames(reader, packets, wanted, lambda number: kept.take(number, reader))
    frames = kept.frames(wanted) if whole else None
    return None if frames is None else (frames, packets.count)
