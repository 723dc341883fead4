"""One input, decoded by us and by the ``ffmpeg`` program: frames, duration, and which frames a timeline samples."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from testing.corpus import tools
from testing.corpus.inputs import CorpusInput
from vdeploy.core.errors import ClipError
from vdeploy.timeline.sampling import VideoSampler
from vdeploy.timeline.windows import WindowPlan
from vdeploy.video.clips import ClipSpec, read_clip
from vdeploy.video.pictures import resize
from vdeploy.video.reader import VideoReader

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    _Frames = list[npt.NDArray[np.uint8]]

__all__ = ["Outcome", "compare"]

_SIZE = 64
_TOLERANCE = 2.0
"""Mean absolute error of a frame that is still right, of 255."""

_PLAN = (8, 0.8)
"""Sampled frames of a window and its length in seconds, for timelines."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of an input.

    Attributes:
        frames: Frames that ``ffmpeg`` decodes.
        wrong: Frames of ours that are not its frames.
        lost: Frames that we do not show without saying so.
        error: Largest mean absolute error of a frame, of 255.
        faults: What is wrong, in words.
    """

    frames: int
    wrong: int
    lost: int
    error: float
    faults: tuple[str, ...]


def compare(one: CorpusInput, path: Path) -> Outcome:
    """Decodes an input by both and compares.

    Args:
        one: What it is.
        path: Where it is.

    Returns:
        What became of it.
    """
    if one.error:
        try:
            ours = _read_all(path)
        except ClipError as error:
            said = error.reason
            return Outcome(0, 0, 0, 0.0, () if one.error in said else (f"says: {said}",))
        return Outcome(0, len(ours.frames), 0, 0.0, (f"{len(ours.frames)} frames, instead of: {one.error}",))
    try:
        ours = _read_all(path)
    except ClipError as error:
        reference = _reference(path, 0, one)
        return Outcome(len(reference.frames), 0, len(reference.frames), 0.0, (f"says: {error.reason}",))
    reference = _reference(path, ours.stream, one)
    return _judge(one, path, ours, reference)


@dataclasses.dataclass(frozen=True)
class _Ours:
    frames: _Frames
    stream: int
    warnings: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class _Reference:
    frames: _Frames
    starts_s: list[float]
    duration_s: float


def _read_all(path: Path) -> _Ours:
    frames = []
    with VideoReader(path, threading.Event()) as reader:
        while reader.grab():
            frames.append(reader.retrieve(_SIZE))
        stream = reader.stream_index
    clip = read_clip(path, ClipSpec(frames=max(len(frames), 1), size=_SIZE))
    if not all(np.array_equal(one, other) for one, other in zip(frames, clip.frames, strict=True)):
        raise AssertionError(f"{path.name}: a clip of all frames is not all frames")
    return _Ours(frames, stream, clip.warnings)


def _reference(path: Path, stream: int, one: CorpusInput) -> _Reference:
    """The frames of the ``ffmpeg`` program, resized by us."""
    probed = tools.probe_frames(path, stream)
    raw = tools.decode(path, as_shown=False, deinterlace=any(frame["interlaced_frame"] for frame in probed))
    frames: _Frames = []
    at = 0
    for frame in probed:
        height, width = int(frame["height"]), int(frame["width"])
        pixels = np.frombuffer(raw, np.uint8, min(3 * height * width, len(raw) - at), at)
        if pixels.size < 3 * height * width:
            break
        at += pixels.size
        picture = pixels.reshape(height, width, 3)
        shown = np.ascontiguousarray(one.turn(picture) if one.turn else picture)
        frames.append(resize(shown, _SIZE))
    starts = [float(frame.get("best_effort_timestamp_time", "nan")) for frame in probed][: len(frames)]
    last = float(probed[-1].get("pkt_duration_time", "nan")) if probed else 0.0
    duration = starts[-1] - starts[0] + last if starts else 0.0
    return _Reference(frames, [start - starts[0] for start in starts], duration)


def _judge(one: CorpusInput, path: Path, ours: _Ours, reference: _Reference) -> Outcome:
    missing = len(reference.frames) - len(ours.frames)
    is_told = 0 < missing <= one.fewer_frames and bool(ours.warnings)
    errors = list(_errors(ours.frames, reference.frames, missing if is_told else 0))
    wrong = sum(error > _TOLERANCE for error in errors)
    faults = []
    if wrong:
        first = next(number for number, error in enumerate(errors) if error > _TOLERANCE)
        faults.append(f"{wrong} frames differ, the first is {first} by {errors[first]:.1f}")
    if missing and not is_told and not (missing < 0 and one.may_warn):
        faults.append(f"{len(ours.frames)} frames, ffmpeg decodes {len(reference.frames)}")
    faults += _warning_faults(one, ours.warnings)
    if np.isfinite(reference.duration_s) and np.isfinite(reference.starts_s).all() and not one.fewer_frames:
        faults += _timeline_faults(path, reference)
    lost = 0 if is_told else max(missing, 0)
    return Outcome(len(reference.frames), wrong, lost, max(errors, default=0.0), tuple(faults))


def _errors(ours: _Frames, theirs: _Frames, left_out: int) -> Iterator[float]:
    """Errors of our frames, in order, where so many of theirs are left out."""
    place = 0
    for frame in ours:
        while place < len(theirs) - 1 and left_out > 0 and _error(frame, theirs[place]) > _TOLERANCE:
            place, left_out = place + 1, left_out - 1
        if place < len(theirs):
            yield _error(frame, theirs[place])
        place += 1


def _warning_faults(one: CorpusInput, warnings: tuple[str, ...]) -> Iterator[str]:
    if one.warning:
        if not any(one.warning in warning for warning in warnings):
            yield f"does not warn about: {one.warning}"
    elif warnings and not one.may_warn:
        yield f"false alarm: {warnings[0]}"


def _timeline_faults(path: Path, reference: _Reference) -> Iterator[str]:
    frames, window_s = _PLAN
    plan = WindowPlan(frames, window_s, frames // 2)
    sampler = VideoSampler(path, plan, _SIZE)
    sampled = dict(sampler)
    spans = np.diff([*reference.starts_s, reference.duration_s])
    slack_s = 1.5 * float(np.median(spans)) + 0.05
    if abs(sampler.duration_s - reference.duration_s) > slack_s:
        yield f"lasts {sampler.duration_s:.2f} s, by ffmpeg {reference.duration_s:.2f} s"
    if sampler.duration_s < 0.98 * sampler.expected_s - slack_s:
        yield f"false alarm: only {sampler.duration_s:.1f} of {sampler.expected_s:.1f} s"
    starts = np.asarray(reference.starts_s)
    for index, picture in sampled.items():
        at_s = plan.time_of(index)
        shown = int(np.searchsorted(starts, at_s, side="right")) - 1
        near = range(max(shown - 1, 0), min(shown + 2, len(starts)))
        if not any(_error(picture, reference.frames[number]) <= 6 for number in near):
            yield f"the frame sampled at {at_s:.2f} s is not frame {shown} or next to it"
            return


def _error(one: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8]) -> float:
    return float(np.abs(one.astype(np.int16) - other).mean())
