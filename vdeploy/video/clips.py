"""Any video file in, ``uint8[T, H, W, 3]`` RGB frames out: the one decoder of the whole system."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from vdeploy.video.file_checks import check_file, is_iso
from vdeploy.video.pictures import Fit
from vdeploy.video.reader import VideoReader
from vdeploy.video.wanted_frames import read_frames

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import numpy.typing as npt

__all__ = ["Clip", "ClipSpec", "read_clip"]

DECODER_REVISION = 2
"""Counts changes of the decoder that change frames. 2: interlaced video is deinterlaced, all eight orientations are
applied, and frames of more than 8 bits or of 4:1:1 colour are converted as by FFmpeg's ``scale`` filter."""


@dataclasses.dataclass(frozen=True)
class ClipSpec:
    """How a video becomes the frames that the network sees.

    Attributes:
        frames: Frames taken from a clip, T.
        size: Height and width of a frame in pixels, H = W.
        sampling: ``"uniform"``: the middle frames of T equal parts of the clip.
        interpolation: ``"area"``: pixel area averaging when shrinking, bilinear when enlarging.
        views: Samplings of T frames to take in one decoding, V; see `vdeploy.video.views`.
        fit: How a picture becomes a square: ``"squeeze"`` does not keep the aspect ratio, ``"letterbox"`` keeps it
            between black bars.
    """

    frames: int = 16
    size: int = 224
    sampling: str = "uniform"
    interpolation: str = "area"
    views: int = 1
    fit: Fit = "squeeze"

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
        if self.fit not in get_args(Fit):
            raise ValueError(f"fit must be 'squeeze' or 'letterbox', not {self.fit!r}")

    def to_dict(self) -> dict[str, Any]:
        """The fields that say what a network sees as JSON-ready values: all but ``views``.

        ``fit`` is left out where it is ``"squeeze"``, as in what was written before there was a choice.
        """
        values = dataclasses.asdict(self)
        del values["views"]
        if self.fit == "squeeze":
            del values["fit"]
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


def read_clip(
    path: Path | str,
    spec: ClipSpec = ClipSpec(),
    *,
    max_pixels: int | None = None,
    stop: threading.Event | None = None,
) -> Clip:
    """Decodes the frames of one video that the network sees, in this process.

    A defect of the decoder ends the process; `vdeploy.video.workers.clips` decodes files apart from it.

    Frames are upright (orientation metadata is applied) and resized to ``spec.size`` as ``spec.fit`` says. An axis that
    shrinks is averaged over pixel areas, one that grows is interpolated. Nothing is written to stderr. Safe to call
    from several threads.

    Args:
        path: A video file of any kind that FFmpeg reads.
        spec: Number and size of the frames.
        max_pixels: Largest width times height of a frame; ``None`` for no limit.
        stop: Set to give up.

    Returns:
        The clip; see `vdeploy.video.wanted_frames` for which frames it holds.

    Raises:
        ClipError: The file is missing, empty, no video, or no frame of it can be decoded.
        vdeploy.video.reader.Stopped: ``stop`` was set.
    """
    path = Path(path)
    head = check_file(path)
    with VideoReader(path, stop or threading.Event(), max_pixels) as reader:
        fps = reader.fps
        header = reader.frame_count if _stores_count(head) else 0
        frames, count = read_frames(reader, spec.samples, spec.size, spec.fit, header)
        warnings = [*reader.warnings, *_warnings(count, header, spec.frames, reader.damage)]
    return Clip(
        frames=frames,
        decoded_frames=count,
        header_frames=header,
        fps=fps,
        warnings=tuple(warnings),
    )


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
