"""A number of simulated cameras, watched for a while: what was dropped, and where the processor time went."""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import os
import statistics
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path
from unittest import mock

import numpy as np

from testing.decoder_kills import children, cpu_seconds
from testing.streams import h264_server
from testing.videos import write_video
from vdeploy.inference.in_process import LocalScorer
from vdeploy.live import watcher
from vdeploy.live.inbox import Arrival, Inbox
from vdeploy.live.source import Source, parse_source
from vdeploy.synthetic.clip import frames_of

__all__ = ["FPS", "SAMPLED_FPS", "SIZE", "CameraServer", "Trial", "watch_cameras", "write_camera_video"]

SAMPLED_FPS = 8.0
FPS = 25
SIZE = (640, 360)
MOST_MISSING = 0.01
PICTURES = 75
_CONNECTING_S = 60.0


@dataclasses.dataclass(frozen=True)
class Trial:
    """A number of cameras, watched for a while.

    Attributes:
        cameras: How many.
        dropped: Sampled frames that were dropped.
        missing: Part of the frames to sample that were not.
        decoding_share: Part of the processor time that went into the decoder processes.
        busy_cores: Processor seconds of the program and its decoders a second.
        server_cores: Those of the cameras' server.
        latency_ms: Median time from a window's last frame to its score.
    """

    cameras: int
    dropped: int
    missing: float
    decoding_share: float
    busy_cores: float
    server_cores: float
    latency_ms: float

    @property
    def kept_up(self) -> bool:
        """Whether nothing was dropped and hardly anything was missing."""
        return not self.dropped and self.missing <= MOST_MISSING


class CameraServer:
    """An RTSP server in another process; a context manager.

    Args:
        video: The H.264 video that every camera sends over and over.
    """

    def __init__(self, video: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(str(video), theirs), daemon=True)

    def __enter__(self) -> CameraServer:
        self._process.start()
        self._port = self._connection.recv()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()

    def source(self, number: int) -> Source:
        """A camera of it."""
        return parse_source(f"rtsp://127.0.0.1:{self._port}/{number}")

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid or 0


def _serve(video: str, connection: Connection) -> None:
    with h264_server(Path(video), fps=FPS) as server:
        connection.send(server.port)
        threading.Event().wait()


def write_camera_video(path: Path) -> Path:
    """Draws what the cameras send."""
    drawn = frames_of(0, 1, is_violent=True, size=SIZE, fps=FPS)
    pictures = [np.ascontiguousarray(frame[:, :, ::-1]) for frame in drawn][:PICTURES]
    options = {"preset": "veryfast", "tune": "zerolatency", "g": 2 * FPS, "crf": 26}
    return write_video(path, pictures, codec="libx264", fps=FPS, **options)


class _CountingInbox(Inbox):
    """Counts the frames that cameras leave in it."""

    sampled = 0

    def put(self, arrival: Arrival) -> None:
        super().put(arrival)
        _CountingInbox.sampled += 1


def watch_cameras(scorer: LocalScorer, server: CameraServer, cameras: int, seconds: float) -> Trial:
    """Watches cameras for a while, once their first windows are scored."""
    sources = [server.source(number) for number in range(cameras)]
    window_s = scorer.spec.frames / SAMPLED_FPS
    stop = threading.Event()
    dropped: dict[str, int] = {}
    latencies: list[float] = []
    connected = 0
    began = ends = 0.0
    gives_up = time.monotonic() + _CONNECTING_S + 2 * window_s + seconds
    before = after = _Reading.of(server)
    dropped_before = 0
    with mock.patch.object(watcher, "Inbox", _CountingInbox):
        for report in watcher.watch(sources, lambda: contextlib.nullcontext(scorer), window_s=window_s, stop=stop):
            now = time.monotonic()
            connected += report.kind == "connected"
            dropped[report.source] = max(report.dropped_frames, dropped.get(report.source, 0))
            if connected == cameras and not began:
                began = now + window_s + 1
            if began and now >= began and not ends:
                before, dropped_before, ends = _Reading.of(server), sum(dropped.values()), now + seconds
                latencies.clear()
            if report.latency_ms is not None:
                latencies.append(report.latency_ms)
            if now >= gives_up:
                stop.set()
            if ends and now >= ends and not stop.is_set():
                after = _Reading.of(server)
                stop.set()
    passed_s = after.at_s - before.at_s
    if passed_s <= 0 or not latencies:
        return Trial(cameras, 0, 1.0, 0.0, 0.0, 0.0, 0.0)
    decoding_s, own_s = after.decoders_s - before.decoders_s, after.own_s - before.own_s
    return Trial(
        cameras,
        dropped=sum(dropped.values()) - dropped_before,
        missing=round(max(0.0, 1 - (after.sampled - before.sampled) / (passed_s * SAMPLED_FPS * cameras)), 4),
        decoding_share=round(decoding_s / (decoding_s + own_s), 3),
        busy_cores=round((decoding_s + own_s) / passed_s, 2),
        server_cores=round((after.server_s - before.server_s) / passed_s, 2),
        latency_ms=round(statistics.median(latencies), 1),
    )


@dataclasses.dataclass(frozen=True)
class _Reading:
    """Processor seconds and sampled frames up to a moment."""

    at_s: float
    own_s: float
    decoders_s: float
    server_s: float
    sampled: int

    @classmethod
    def of(cls, server: CameraServer) -> _Reading:
        decoders = [pid for pid in _below(os.getpid()) if pid != server.pid]
        decoders_s = sum(map(cpu_seconds, decoders))
        return cls(time.monotonic(), time.process_time(), decoders_s, cpu_seconds(server.pid), _CountingInbox.sampled)


def _below(pid: int) -> list[int]:
    """All processes that a process has started, and those that these have."""
    found = children(pid)
    return found + [below for child in found for below in _below(child)]
