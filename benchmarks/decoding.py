"""Speed of the decoder beside OpenCV's: the same frames of the same clips, decoded and resized by both in turn.

python -m benchmarks.decoding [CLIPS] [--clips 24] [--rounds 5] [--json] [--out FILE]
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from benchmarks.clips import open_clips
from benchmarks.output import add_output_options, report_result
from vdeploy.core.errors import UserError
from vdeploy.video.clips import ClipSpec, read_clip
from vdeploy.video.pictures import resize
from vdeploy.video.wanted_frames import frame_indices

__all__ = ["compare_decoders", "main"]


def compare_decoders(paths: Sequence[Path], spec: ClipSpec, rounds: int) -> dict[str, Any]:
    """Decodes clips by both, clip by clip in turn, one thread each; seconds are those of the processor.

    Args:
        paths: Progressive, intact clips.
        spec: Frames and size.
        rounds: How often each clip is decoded by each; the fastest counts.

    Returns:
        Frames a second of both, counting the frames that a clip gives, and the ratio of ours to OpenCV's.
    """
    ours = theirs = 0.0
    ratios = []
    cv2.setNumThreads(1)
    for path in paths:
        pairs = [(_seconds(read_clip, path, spec), _seconds(_by_opencv, path, spec)) for _ in range(rounds)]
        mine, other = (min(times) for times in zip(*pairs, strict=True))
        ours, theirs = ours + mine, theirs + other
        ratios.append(other / mine)
    frames = len(paths) * spec.frames
    return {
        "decode_frames_per_s": round(frames / ours, 1),
        "opencv_frames_per_s": round(frames / theirs, 1),
        "decode_ratio": round(theirs / ours, 3),
        "decode_ratio_median_clip": round(statistics.median(ratios), 3),
    }


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark; 2 if it could not run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("source", nargs="?", type=Path, metavar="CLIPS", help="folder of clips; generated if left out")
    parser.add_argument("--clips", type=int, default=24, help="how many clips to use (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="how often to decode each (%(default)s)")
    parser.add_argument("--frames", type=int, default=16, help="frames of a clip (%(default)s)")
    parser.add_argument("--size", type=int, default=224, help="pixels of a frame's side (%(default)s)")
    add_output_options(parser)
    options = parser.parse_args(arguments)
    with contextlib.ExitStack() as stack:
        try:
            found = stack.enter_context(open_clips(options.source, options.clips))
            step = max(1, len(found.clips) // options.clips)
            paths = [found.absolute(clip) for clip in found.clips[::step][: options.clips]]
            spec = ClipSpec(frames=options.frames, size=options.size)
            result = {"clips": len(paths), **compare_decoders(paths, spec, options.rounds)}
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
    report_result(options, result, "\n".join(f"{name:28} {value}" for name, value in result.items()))
    return 0


def _by_opencv(path: Path, spec: ClipSpec) -> npt.NDArray[np.uint8]:
    """What the decoder did when it stood on OpenCV."""
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    wanted = frozenset(frame_indices(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), spec.samples))
    kept = []
    number = 0
    while capture.grab():
        if number in wanted:
            kept.append(cv2.cvtColor(resize(capture.retrieve()[1], spec.size), cv2.COLOR_BGR2RGB))
        number += 1
    capture.release()
    return np.stack(kept)


def _seconds(decode: Callable[[Path, ClipSpec], object], path: Path, spec: ClipSpec) -> float:
    started = time.thread_time()
    decode(path, spec)
    return time.thread_time() - started


if __name__ == "__main__":
    sys.exit(main())
