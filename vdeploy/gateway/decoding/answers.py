"""What the messages of a decoder process mean: clips, the end of a video, or a problem."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from vdeploy.gateway.problems import Problem, unavailable

if TYPE_CHECKING:
    import numpy.typing as npt

    from vdeploy.video.clips import ClipSpec
    from vdeploy.video.workers.message_reader import Message

__all__ = ["HINT", "DecodedClip", "VideoEnd", "as_frames", "decoder_failure", "read_clip_answer", "refusal"]

HINT = "send an intact MP4, MOV, AVI, MKV or WebM file that holds a video within the limits"


@dataclasses.dataclass(frozen=True, eq=False)
class DecodedClip:
    """The frames of one file.

    Attributes:
        frames: ``uint8[T, S, S, 3]`` RGB.
        count: Frames that the file holds.
        fps: Mean frames per second according to the container; 0 if it says nothing.
        warnings: What is unusual about the file.
    """

    frames: npt.NDArray[np.uint8]
    count: int
    fps: float
    warnings: tuple[str, ...]


class VideoEnd(NamedTuple):
    """A video has been decoded to its end.

    Attributes:
        duration_s: Its length in seconds.
        expected_s: Its length according to its container; 0 if that says nothing.
        warnings: What is unusual about it.
    """

    duration_s: float
    expected_s: float
    warnings: tuple[str, ...]


def read_clip_answer(answer: Generator[Message, None, None], spec: ClipSpec) -> DecodedClip:
    """Read the frames of one clip from an answer, and close it.

    Args:
        answer: The messages.
        spec: Number and size of the frames.

    Raises:
        Problem: There are none.
    """
    frames: npt.NDArray[np.uint8] | None = None
    with contextlib.closing(answer) as messages:
        for values, payload in messages:
            if values.get("end") and frames is not None:
                warnings = tuple(str(warning) for warning in values["warnings"])
                return DecodedClip(frames, int(values["frames"]), float(values["fps"]), warnings)
            frames = as_frames(payload, (spec.frames, spec.size, spec.size, 3))
    raise decoder_failure("ended without frames")


def as_frames(payload: bytearray, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """The bytes behind a message as frames; a `Problem` if they are something else."""
    if len(payload) != math.prod(shape):
        raise decoder_failure("returned something other than frames")
    return np.frombuffer(payload, np.uint8).reshape(shape)


def decoder_failure(what: str) -> Problem:
    """503: a decoder process did not do what it should."""
    return unavailable("decoder_failed", f"the decoder {what}")


def refusal(values: dict[str, Any]) -> Problem:
    """422: the decoder has refused the video."""
    return Problem(422, str(values["code"])[:40], f"the video {str(values.get('reason'))[:200]}", HINT)
