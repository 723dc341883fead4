"""Speed of sliding windows relative to classifying each window by itself, and peak memory on long videos.

    python -m benchmarks.timeline --bundle BUNDLE [CLIPS] [--minutes 10] [--piece 1] [--stride 1] [--format F]

A long video is made from labelled clips (generated ones if no folder is given) and is scored by the detector with
windows of 2 s. A part of it is scored in two ways: by the detector, and each window by itself, all of its frames
through both stages. Both times include decoding once. The ratio is measured there, also for windows that begin at every
sampled frame; probabilities are compared window by window. Peak memory is that of a separate process, for a video of
one minute and for the long one. Fails if scores differ or memory grows by more than a tenth.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.montage import labelled_clips, make_montage, montage_parser
from benchmarks.output import report_result
from vdeploy.artifacts.bundle import Bundle
from vdeploy.core.errors import UserError
from vdeploy.detector import detect
from vdeploy.inference.in_process import LocalScorer
from vdeploy.inference.runtimes.base import available_cores
from vdeploy.timeline.sampling import VideoSampler
from vdeploy.timeline.timeline import Timeline
from vdeploy.timeline.windows import WindowPlan

WINDOW_S = 2.0
TOLERANCE = 1e-5
MEMORY_GROWTH = 1.1


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A part of a video, scored in both ways.

    Attributes:
        stride_s: From window to window, in seconds.
        windows: How many.
        sliding_s: Seconds that the detector took.
        alone_s: Seconds that decoding and each window by itself took.
        ratio: How many times longer the latter is.
        difference: The largest between two probabilities of a window.
    """

    stride_s: float
    windows: int
    sliding_s: float
    alone_s: float
    ratio: float
    difference: float


def compare(video: Path, scorer: LocalScorer, stride_s: float) -> Comparison:
    """Scores the windows of a video with the detector and each by itself."""
    plan = WindowPlan.of(scorer.spec.frames, WINDOW_S, stride_s)
    scorer.score(np.zeros((1, scorer.spec.frames, scorer.spec.size, scorer.spec.size, 3), np.uint8))
    started = time.perf_counter()
    timeline = detect(video, scorer, window_s=WINDOW_S, stride_s=stride_s)
    between = time.perf_counter()
    frames = dict(VideoSampler(video, plan, scorer.spec.size))
    alone = []
    for window in timeline.windows:
        first = round(window.start_s * plan.sampled_fps)
        clip = np.stack([frames[first + number] for number in range(plan.frames)])
        alone.append(float(scorer.score(clip[np.newaxis])[0, 1]))
    ended = time.perf_counter()
    sliding_s, alone_s = between - started, ended - between
    difference = max(abs(one - window.probability) for one, window in zip(alone, timeline.windows, strict=True))
    return Comparison(plan.stride_s, len(alone), sliding_s, alone_s, alone_s / sliding_s, difference)


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark; 1 if scores differ or memory grows, 2 if it could not run."""
    options = _parse(arguments)
    try:
        if options.only:
            return _detect_only(options)
        result = _run(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    report_result(options, result, as_text(result))
    return 0 if result["scores_identical"] and result["memory_bounded"] else 1


def _run(options: argparse.Namespace) -> dict[str, Any]:
    scorer = LocalScorer(Bundle(options.bundle), options.format)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        clips = labelled_clips(options.clips, options.split, scratch)
        long = make_montage(clips, options.minutes, 0, scratch / "long.mp4")
        minute = make_montage(clips, 1.0, 0, scratch / "minute.mp4")
        piece = make_montage(clips, options.piece, 0, scratch / "piece.mp4")
        whole, long_mb = _in_a_process(options, long.path)
        _, minute_mb = _in_a_process(options, minute.path)
        one_frame_s = WINDOW_S / scorer.spec.frames
        both = [compare(piece.path, scorer, stride_s) for stride_s in (options.stride, one_frame_s)]
    return {
        "machine": f"{platform.machine()}, {available_cores()} cores",
        "bundle": options.bundle.name,
        "format": scorer.format_name,
        "frame_px": scorer.spec.size,
        "clips": "generated" if options.clips is None else options.clips.name,
        "window_s": WINDOW_S,
        "stride_s": whole["stride_s"],
        "sampled_fps": whole["sampled_fps"],
        "long": {"duration_s": round(long.duration_s, 1), "windows": whole["windows"], "seconds": whole["seconds"]},
        "times_real_time": round(long.duration_s / whole["seconds"], 1),
        "piece_s": round(piece.duration_s, 1),
        "both_ways": [_rounded(one) for one in both],
        "scores_identical": all(one.difference <= TOLERANCE for one in both),
        "peak_mb": {"minute": minute_mb, "long": long_mb},
        "memory_bounded": long_mb <= MEMORY_GROWTH * minute_mb,
    }


def as_text(result: dict[str, Any]) -> str:
    """The result as a person reads it."""
    long, memory = result["long"], result["peak_mb"]
    lines = [
        f"{long['duration_s']} s of video: {long['seconds']} s, {result['times_real_time']} times real time",
        f"peak memory: {memory['minute']} MB for a minute, {memory['long']} MB for all of it",
    ]
    lines += [
        f"windows every {both['stride_s']} s, {both['windows']:g} of them: {both['sliding_s']} s; each by itself "
        f"{both['alone_s']} s, {both['ratio']} times as long; largest difference {both['difference']:.1e}"
        for both in result["both_ways"]
    ]
    return "\n".join(lines)


def _rounded(both: Comparison) -> dict[str, float]:
    return {name: float(f"{value:.4g}") for name, value in dataclasses.asdict(both).items()}


def _in_a_process(options: argparse.Namespace, video: Path) -> tuple[dict[str, Any], float]:
    """Runs the detector in a separate process; returns its result and its peak memory in MB."""
    command = [sys.executable, "-m", "benchmarks.timeline", "--bundle", str(options.bundle), "--only", str(video)]
    command += ["--stride", str(options.stride), *(["--format", options.format] if options.format else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    return found, found["peak_mb"]


def _detect_only(options: argparse.Namespace) -> int:
    scorer = LocalScorer(Bundle(options.bundle), options.format)
    started = time.perf_counter()
    timeline: Timeline = detect(options.only, scorer, window_s=WINDOW_S, stride_s=options.stride)
    result = {
        "windows": len(timeline.windows),
        "stride_s": timeline.stride_s,
        "sampled_fps": timeline.sampled_fps,
        "seconds": round(time.perf_counter() - started, 2),
        "peak_mb": _peak_mb(),
    }
    print(json.dumps(result))
    return 0


def _peak_mb() -> float:
    """Peak memory of this process alone; getrusage would count what the one that started it held."""
    status = Path("/proc/self/status").read_text()
    return round(int(re.findall(r"VmHWM:\s+(\d+)", status)[0]) / 1024, 1)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = montage_parser(__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="length of the long video (%(default)s)")
    parser.add_argument("--piece", type=float, default=1.0, help="minutes that are scored in both ways (%(default)s)")
    parser.add_argument("--stride", type=float, default=1.0, help="seconds from window to window (%(default)s)")
    parser.add_argument("--only", type=Path, metavar="VIDEO", help="detect in this video, and nothing else")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
