"""Cost of decoding cameras in worker processes: processor time and delay beside decoding in the watching process.

python -m benchmarks.cameras [--cameras 2] [--seconds 10] [--rounds 3] [--json] [--out FILE]
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import multiprocessing.connection
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.output import add_output_options, report_result
from testing.decoder_kills import children, cpu_seconds
from testing.streams import rtsp_server
from testing.videos import numbered_frame, write_video
from vdeploy.live.camera import Camera
from vdeploy.live.inbox import Arrival, Inbox
from vdeploy.live.source import Source, parse_source
from vdeploy.timeline.sliding import Sample
from vdeploy.video.arrival_sampling import ArrivalSampler
from vdeploy.video.live_reader import LiveReader

__all__ = ["main"]

_WARM_S = 2.0
_FPS = 25


class _InProcess(threading.Thread):
    """Decodes and samples a source in this process."""

    def __init__(self, stream: int, source: Source, inbox: Inbox, options: argparse.Namespace) -> None:
        super().__init__(daemon=True)
        self._stream, self._source, self._inbox, self._options = stream, source, inbox, options
        self.over = threading.Event()

    def run(self) -> None:
        sampler = ArrivalSampler(self._options.sampled_fps)
        with LiveReader(self._source.to_input()) as reader:
            while not self.over.is_set() and reader.grab():
                arrived_s = time.monotonic()
                index = sampler.take(arrived_s)
                frame = None if index is None else reader.retrieve(self._options.size)
                if index is not None and frame is not None:
                    self._inbox.put(Arrival(Sample(self._stream, index, frame), arrived_s))


@contextlib.contextmanager
def _running(way: str, sources: list[Source], inbox: Inbox, options: argparse.Namespace) -> Iterator[None]:
    over = threading.Event()
    threads: list[threading.Thread] = []
    for stream, source in enumerate(sources):
        if way == "in_process":
            one = _InProcess(stream, source, inbox, options)
            one.over = over
            threads.append(one)
        else:
            rate, size = options.sampled_fps, options.size
            camera = Camera(stream, source, inbox, sampled_fps=rate, size=size, tell=lambda _: None, stop=over)
            threads.append(camera)
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join(10)


def _measure(way: str, sources: list[Source], options: argparse.Namespace, server: int) -> dict[str, float]:
    """Load of this process and its decoders, frames a second, and delays until a frame is taken."""
    inbox = Inbox(100)
    with _running(way, sources, inbox, options):
        while not inbox.take(1.0):
            pass
        time.sleep(_WARM_S)
        inbox.take(0)
        pids = [os.getpid(), *_decoders(os.getpid(), server)]
        used_s, begun_s = sum(map(cpu_seconds, pids)), time.monotonic()
        delays_ms = []
        while time.monotonic() < begun_s + options.seconds:
            arrivals = inbox.take(0.2)
            now_s = time.monotonic()
            delays_ms += [(now_s - one.arrived) * 1000 for one in arrivals]
        lasted_s = time.monotonic() - begun_s
        used_s = sum(map(cpu_seconds, pids)) - used_s
    return {
        "cpu_percent": 100 * used_s / lasted_s,
        "frames_per_s": len(delays_ms) / lasted_s,
        "delay_ms_p50": statistics.median(delays_ms),
        "delay_ms_p99": float(np.percentile(delays_ms, 99)),
    }


def _decoders(pid: int, server: int) -> list[int]:
    found = [child for child in children(pid) if child != server]
    return [*found, *(one for child in found for one in _decoders(child, server))]


def _serve(path: Path, count: int, pipe: multiprocessing.connection.Connection) -> None:
    """Serves the video until the other end of the pipe closes."""
    with contextlib.ExitStack() as stack:
        pipe.send([stack.enter_context(rtsp_server(path, fps=_FPS)).port for _ in range(count)])
        with contextlib.suppress(EOFError):
            pipe.recv()


def _write(path: Path) -> Path:
    noise = np.random.default_rng(0).integers(0, 40, (720, 1280, 3), np.uint8)
    frames = (np.roll(noise, number * 8, axis=1) + numbered_frame(number, 1280, 720) // 2 for number in range(100))
    return write_video(path, frames, g=25)


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cameras", type=int, default=2, help="cameras of 1280 x 720 pixels at 25 fps (%(default)s)")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of a measurement (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each, in turn (%(default)s)")
    parser.add_argument("--sampled-fps", type=float, default=8.0, help="sampled frames a second (%(default)s)")
    parser.add_argument("--size", type=int, default=224, help="pixels of a frame's side (%(default)s)")
    add_output_options(parser)
    options = parser.parse_args(arguments)
    ways = ("in_process", "workers")
    measured: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory() as folder:
        here, there = multiprocessing.Pipe()
        path = _write(Path(folder) / "v.mp4")
        server = multiprocessing.get_context("spawn").Process(target=_serve, args=(path, options.cameras, there))
        server.start()
        there.close()
        try:
            sources = [parse_source(f"rtsp://127.0.0.1:{port}/") for port in here.recv()]
            for _ in range(options.rounds):
                for way in ways:
                    measured[way].append(_measure(way, sources, options, server.pid or 0))
        finally:
            here.close()
            server.join(10)
    result: dict[str, Any] = {
        way: {name: round(statistics.median(one[name] for one in measured[way]), 3) for name in measured[way][0]}
        for way in ways
    }
    ratios = [far["cpu_percent"] / near["cpu_percent"] for near, far in zip(*measured.values(), strict=True)]
    result = {"cameras": options.cameras, **result, "cpu_ratio": round(statistics.median(ratios), 3)}
    lines = [f"{way:12} " + "  ".join(f"{name} {value:g}" for name, value in result[way].items()) for way in ways]
    report_result(options, result, "\n".join([*lines, f"cpu_ratio {result['cpu_ratio']}"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
