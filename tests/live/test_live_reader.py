"""Live sources are decoded as files are, by one connection, and fail in one line."""

from __future__ import annotations

import contextlib
import functools
import http.server
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from testing.streams import h264_server, mjpeg_server, transport_server
from testing.videos import numbered_frame, read_number, write_audio, write_numbered, write_video
from testing.waiting import eventually
from vdeploy.core.errors import SourceError
from vdeploy.live.camera import Camera
from vdeploy.live.inbox import Inbox
from vdeploy.live.report import Report
from vdeploy.live.source import CAPTURE_OPTIONS, parse_source
from vdeploy.video.arrival_sampling import ArrivalSampler
from vdeploy.video.live_reader import LiveInput, LiveReader
from vdeploy.video.reader import VideoReader


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Says nothing."""


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def test_h264_over_rtsp(tmp_path: Path) -> None:
    frames = (np.random.default_rng(number).integers(0, 256, (96, 128, 3), dtype=np.uint8) for number in range(5))
    path = write_video(tmp_path / "v.ts", frames, codec="libx264", tune="zerolatency", g=5)
    with VideoReader(path, threading.Event()) as reader:
        expected = [reader.retrieve(32).tobytes() for _ in iter(reader.grab, False)]
    assert path.stat().st_size > 5 * 1400  # pictures go in several packets
    with h264_server(path) as server, LiveReader(parse_source(f"rtsp://127.0.0.1:{server.port}/").to_input()) as live:
        found = [live.retrieve(32).tobytes() for _ in range(8) if live.grab()]
    assert len(found) == 8
    assert set(found) == set(expected)


def test_interlaced_and_turned_streams_are_decoded_as_files_are(tmp_path: Path) -> None:
    frames = [numbered_frame(number, 96, 64) for number in range(20)]
    path = write_video(
        tmp_path / "i.ts", frames, codec="libx264", flags="+ilme+ildct", field="tff", **{"x264-params": "tff=1"}
    )
    with VideoReader(path, threading.Event()) as reader:
        expected = [reader.retrieve(32) for _ in iter(reader.grab, False)]
    with served(tmp_path) as address, LiveReader(parse_source(f"{address}/i.ts").to_input()) as live:
        found = [live.retrieve(32) for _ in iter(live.grab, False)]
    assert [read_number(frame) for frame in found] == list(range(20))
    assert np.array_equal(found, expected)


def interlaced(path: Path, count: int = 40) -> Path:
    frames = [numbered_frame(number, 96, 64) for number in range(count)]
    options = {"x264-params": "tff=1:keyint=10"}
    return write_video(path, frames, codec="libx264", flags="+ilme+ildct", field="tff", **options)


def numbers_of(address: str) -> list[int]:
    with LiveReader(parse_source(address).to_input()) as live:
        return [read_number(live.retrieve(32)) for _ in iter(live.grab, False)]


@pytest.mark.parametrize("kind", ["interlaced H.264", "HEVC", "MPEG-2"])
def test_what_cameras_send_by_rtsp(tmp_path: Path, kind: str) -> None:
    if kind == "interlaced H.264":
        path = interlaced(tmp_path / "v.ts")
    elif kind == "HEVC":
        quiet = {"x265-params": "log-level=none:keyint=10", "preset": "ultrafast"}
        path = write_numbered(tmp_path / "v.ts", 40, width=96, height=64, codec="libx265", **quiet)
    else:
        path = write_numbered(tmp_path / "v.ts", 40, codec="mpeg2video", g=10)
    with transport_server(path) as server:
        found = numbers_of(f"rtsp://127.0.0.1:{server.port}/")
    assert found[-19:] == list(range(20, 39))
    assert len(found) >= 35


def test_a_resolution_that_changes_on_the_way(tmp_path: Path) -> None:
    sizes = ((64, 48), (96, 80), (48, 64))
    parts = [
        write_numbered(tmp_path / f"{number}.ts", 20, width=width, height=height, codec="libx264", bf=0, g=5)
        for number, (width, height) in enumerate(sizes)
    ]
    (tmp_path / "v.ts").write_bytes(b"".join(part.read_bytes() for part in parts))
    with transport_server(tmp_path / "v.ts") as server:
        found = numbers_of(f"rtsp://127.0.0.1:{server.port}/")
    assert found[-19:] == list(range(19))
    assert len(found) >= 55


def test_packets_that_are_lost_cost_frames_and_nothing_else(tmp_path: Path) -> None:
    path = interlaced(tmp_path / "v.ts", 200)
    with transport_server(path) as server:
        server.lose_every = 9
        found = numbers_of(f"rtsp://127.0.0.1:{server.port}/")
    assert 40 < len(found) <= 200
    assert len(set(found) & set(range(200))) > 40


def test_a_camera_that_breaks_off_and_comes_back(tmp_path: Path) -> None:
    path = interlaced(tmp_path / "v.ts", 100)
    with transport_server(path, rate=200.0) as server:
        server.close_after = 40
        inbox, stop = Inbox(1000), threading.Event()
        told: list[Report] = []
        source = parse_source(f"rtsp://127.0.0.1:{server.port}/")
        camera = Camera(0, source, inbox, sampled_fps=1000.0, size=32, tell=told.append, stop=stop)
        camera.start()
        assert eventually(lambda: sum(report.kind == "connected" for report in list(told)) >= 2)
        stop.set()
        camera.join(20)
    assert not camera.is_alive()
    assert "sends nothing any more; tried again in" in next(report.message for report in told if report.kind == "lost")


def test_a_camera_that_takes_one_connection(tmp_path: Path) -> None:
    video = write_numbered(tmp_path / "v.mp4", 50)
    with mjpeg_server(video) as server:
        seen: list[object] = []
        server.verify_request = lambda _, address: not seen and not seen.append(address)  # type: ignore[method-assign]
        with LiveReader(parse_source(f"http://127.0.0.1:{server.port}/").to_input()) as reader:
            assert all(reader.grab() for _ in range(5))
            assert reader.retrieve(32) is not None
        assert len(seen) == 1


def test_a_host_that_accepts_and_says_nothing_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://user:secret@127.0.0.1:{silent.getsockname()[1]}/x"
        begun = time.monotonic()
        with pytest.raises(
            SourceError, match=r"the door cannot be reached \(it sends nothing\); see whether"
        ) as caught:
            LiveReader(LiveInput("the door", address), timeout_s=0.5)
        assert time.monotonic() - begun < 5
    assert "secret" not in str(caught.value)


def test_a_stream_of_sound_alone(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav", codec="pcm_s16le")
    with served(tmp_path) as address, pytest.raises(SourceError, match=r"/a\.wav sends no video; see whether"):
        LiveReader(parse_source(f"{address}/a.wav").to_input())


def test_a_frame_that_cannot_be_converted_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_numbered(tmp_path / "v.ts", 10, codec="mpeg2video")

    def stubborn(*_: object, **__: object) -> object:
        raise ValueError("no such conversion")

    with served(tmp_path) as address, LiveReader(parse_source(f"{address}/v.ts").to_input()) as live:
        assert live.grab()
        monkeypatch.setattr("vdeploy.video.pictures.PictureConverter._scaled", stubborn)
        assert live.retrieve(32) is None
        assert live.unconverted == 1


def test_options_for_cameras_reach_addresses_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CAPTURE_OPTIONS, "rtsp_transport;udp|max_delay;500000")
    assert parse_source("rtsp://camera/x").to_input().options == {"rtsp_transport": "udp", "max_delay": "500000"}
    assert parse_source("7").to_input() == LiveInput("/dev/video7", "/dev/video7", container="video4linux2,v4l2")
    monkeypatch.delenv(CAPTURE_OPTIONS)
    assert parse_source("rtsp://camera/x").to_input().options == {"rtsp_transport": "tcp"}


def run_camera(target: str, seconds: float = 20.0) -> tuple[list[Report], Inbox]:
    told: list[Report] = []
    inbox, stop = Inbox(100), threading.Event()
    camera = Camera(0, parse_source(target), inbox, sampled_fps=1000.0, size=32, tell=told.append, stop=stop, retries=0)
    camera.start()
    camera.join(seconds)
    stop.set()
    camera.join(seconds)
    assert not camera.is_alive()
    return told, inbox


def test_time_stamps_that_jump_by_an_hour_are_skipped_and_told(tmp_path: Path) -> None:
    times = [*range(0, 400, 40), *range(3_600_000, 3_600_400, 40)]
    path = write_numbered(tmp_path / "v.mkv", len(times), times_ms=times)
    told, inbox = run_camera(str(path))
    assert [report.kind for report in told] == ["connected", "gap", "ended"]
    assert told[1].message == "its time stamps jump by 3600 s; that is skipped"
    assert read_number(inbox.take(0)[-1].sample.frame) == 19


def test_a_source_that_breaks_in_an_unknown_way_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_numbered(tmp_path / "v.mp4", 10)
    monkeypatch.setattr(Camera, "_play", lambda *_: 1 / 0)
    told, _ = run_camera(str(path))
    assert [report.kind for report in told] == ["lost", "ended"]
    assert told[0].message == f"{path} cannot be read (ZeroDivisionError)"


def test_the_first_frame_in_each_part_of_a_second_is_due() -> None:
    sampler = ArrivalSampler(10.0)
    times = [100.0, 100.01, 100.11, 100.19, 100.2, 101.0, 100.95]
    assert [sampler.take(time) for time in times] == [0, None, 1, None, 2, 10, None]
