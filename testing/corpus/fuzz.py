"""Decodes damaged and raw files in processes of their own, and says which of them end a process, hang it or differ.

python -m testing.corpus.fuzz [--mutated 2000] [--raw 200] [--seed 0] [--json]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from testing.corpus.raw_avi import write_raw_avi
from testing.videos import write_numbered
from vdeploy.core.errors import ClipError
from vdeploy.timeline.sampling import VideoSampler
from vdeploy.timeline.windows import WindowPlan
from vdeploy.video.clips import ClipSpec, read_clip

__all__ = ["main"]

_SPEC = ClipSpec(frames=6, size=32)
_PLAN = WindowPlan(4, 0.5, 2)
_PORTION = 50
_PATIENCE_S = 300.0

_SEEDS = (
    ("v.avi", {"codec": "mpeg4"}),
    ("v.mp4", {"codec": "libx264", "bf": 2, "g": 8}),
    ("v.mkv", {"codec": "libx264", "bf": 2, "g": 8}),
    ("v.ts", {"codec": "libx264", "g": 8}),
    ("v.mpg", {"codec": "mpeg2video", "flags": "+ilme+ildct", "field": "tff"}),
    ("m.avi", {"codec": "mjpeg", "pixel_format": "yuvj420p"}),
    ("v.webm", {"codec": "libvpx", "cpu-used": 8, "deadline": "realtime"}),
    ("r.avi", {"codec": "rawvideo", "pixel_format": "bgr24"}),
)


def main(arguments: list[str] | None = None) -> int:
    """Runs it; 1 where a file ended or hung a process."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--mutated", type=int, default=2000, help="damaged files (%(default)s)")
    parser.add_argument("--raw", type=int, default=200, help="uncompressed files of odd shapes (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the damage (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.add_argument("--decode", nargs="*", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.decode is not None:
        return _decode(options.decode)
    counts = {"files": 0, "decoded": 0, "refused": 0, "ended_process": 0, "hung": 0, "differed": 0}
    with tempfile.TemporaryDirectory() as temporary:
        files = _write(Path(temporary), options.mutated, options.raw, options.seed)
        while portion := [file for _, file in zip(range(_PORTION), files, strict=False)]:
            _try(portion, counts)
            for file in portion:
                file.unlink()
    print(json.dumps(counts) if options.json else ", ".join(f"{count} {name}" for name, count in counts.items()))
    return 1 if counts["ended_process"] or counts["hung"] else 0


def _try(files: list[Path], counts: dict[str, int]) -> None:
    """Decodes files in one process; where that ends, each by itself."""
    command = [sys.executable, "-m", "testing.corpus.fuzz", "--decode", *map(str, files)]
    name = "hung"
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_PATIENCE_S)
        name = "" if done.returncode == 0 else "ended_process"
    except subprocess.TimeoutExpired:
        pass
    if not name:
        counts["files"] += len(files)
        for line in done.stdout.splitlines():
            counts[line] += 1
        print(done.stderr, end="", file=sys.stderr, flush=True)
    elif len(files) == 1:
        counts["files"] += 1
        counts[name] += 1
        print(f"{files[0].name}: {name}", file=sys.stderr, flush=True)
    else:
        for file in files:
            _try([file], counts)


def _decode(files: list[Path]) -> int:
    for file in files:
        print("refused" if (first := _digest(file)) is None else "decoded", flush=True)
        if first != _digest(file):
            print("differed", flush=True)
            print(f"{file.name}: differed", file=sys.stderr, flush=True)
    return 0


def _digest(file: Path) -> str | None:
    try:
        clip = read_clip(file, _SPEC)
        sampled = b"".join(frame.tobytes() for _, frame in VideoSampler(file, _PLAN, 32))
    except ClipError:
        return None
    return hashlib.sha256(clip.frames.tobytes() + sampled).hexdigest()


def _write(folder: Path, mutated: int, raw: int, seed: int) -> Iterator[Path]:
    random = np.random.default_rng(seed)
    seeds = [write_numbered(folder / name, 24, **options) for name, options in _SEEDS]
    contents = [(file.suffix, np.frombuffer(file.read_bytes(), np.uint8)) for file in seeds]
    for number in range(mutated):
        suffix, content = contents[number % len(contents)]
        path = folder / f"mutated-{number:05d}{suffix}"
        path.write_bytes(_mutate(random, content).tobytes())
        yield path
    for number in range(raw):
        path = folder / f"raw-{number:05d}.avi"
        bits = int(random.choice((1, 4, 8, 16, 24, 32)))
        width, height = (int(side) for side in random.integers(1, 200, 2))
        write_raw_avi(path, width=width, height=height, bits=bits, bottom_up=bool(random.integers(2)), frames=3)
        if number % 2:
            path.write_bytes(_mutate(random, np.frombuffer(path.read_bytes(), np.uint8), head=400).tobytes())
        yield path


def _mutate(random: np.random.Generator, content: np.ndarray, head: int = 0) -> np.ndarray:
    """Flips bytes, mostly in the header in half of the files, and cuts or doubles a stretch of some."""
    changed = content.copy()
    reach = head or (min(1500, len(changed)) if random.random() < 0.5 else len(changed))
    places = random.integers(0, min(reach, len(changed)), random.integers(1, 20))
    changed[places] = random.integers(0, 256, len(places))
    if random.random() < 0.2:
        start, end = sorted(random.integers(0, len(changed), 2))
        middle = changed[start:end] if random.random() < 0.5 else changed[:0]
        changed = np.concatenate([changed[:start], middle, changed[end:] if len(middle) == 0 else changed[start:]])
    return changed


if __name__ == "__main__":
    sys.exit(main())
