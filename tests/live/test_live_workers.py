"""Live sources are decoded in worker processes: one that ends costs its source alone, and for a moment only."""

from __future__ import annotations

import contextlib
import io
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from testing.decoder_kills import children
from testing.streams import StreamServer, mjpeg_server, rtsp_server
from testing.tiny_bundle import make_tiny_bundle
from testing.videos import read_number, write_numbered
from testing.waiting import eventually
from vdeploy.core.errors import SourceError
from vdeploy.live import camera
from vdeploy.live.camera import Camera
from vdeploy.live.inbox import Inbox
from vdeploy.live.report import Report
from vdeploy.live.source import parse_source
from vdeploy.video.arrival_sampling import ArrivalSampler
from vdeploy.video.live_reader import LiveInput, LiveReader
from vdeploy.video.reader import Stopped
from vdeploy.video.workers import live_samples
from vdeploy.video.workers.live_samples import open_live
from vdeploy.video.workers.live_task import send_samples
from vdeploy.video.workers.message_reader import Message
from vdeploy.video.workers.messages import Channel
from vdeploy.video.workers.pool import camera_workers

ROOT = Path(__file__).parents[2]
PASSWORD = "hunter2-s3cr3t"  # noqa: S105


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_numbered(tmp_path_factory.mktemp("video") / "v.mp4", 200, g=10)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera, "_FIRST_WAIT_S", 0.05)


class Watched:
    """Cameras of some addresses, and what they report."""

    def __init__(self, *addresses: str, sampled_fps: float = 10.0) -> None:
        self.inbox, self.stop = Inbox(10_000), threading.Event()
        self.told: list[list[Report]] = [[] for _ in addresses]
        self.indices: list[list[int]] = [[] for _ in addresses]
        self.cameras = [
            Camera(
                stream,
                parse_source(address),
                self.inbox,
                sampled_fps=sampled_fps,
                size=32,
                tell=self.told[stream].append,
                stop=self.stop,
            )
            for stream, address in enumerate(addresses)
        ]

    def __enter__(self) -> Watched:
        for one in self.cameras:
            one.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        for one in self.cameras:
            one.join(10)
        assert not any(one.is_alive() for one in self.cameras)
        assert camera_workers.processes == []

    def kinds(self, stream: int) -> list[str]:
        return [report.kind for report in list(self.told[stream])]

    def count(self, stream: int) -> int:
        """Frames of a camera that have come so far."""
        for arrival in self.inbox.take(0):
            self.indices[arrival.sample.stream].append(arrival.sample.index)
        return len(self.indices[stream])


def decoder_of(address: str) -> int:
    """The confined process that decodes an address."""
    found = [one.pid for one in camera_workers.processes if one.source == address]
    return next((child for pid in found for child in children(pid)), 0)


@contextlib.contextmanager
def two_servers(video: Path) -> Iterator[tuple[StreamServer, StreamServer]]:
    with mjpeg_server(video) as http, rtsp_server(video) as rtsp:
        yield http, rtsp


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL])
def test_a_killed_decoder_costs_its_camera_a_moment_and_the_other_one_nothing(
    video: Path, number: signal.Signals
) -> None:
    with two_servers(video) as (http, rtsp):
        victim, other = f"http://user:{PASSWORD}@127.0.0.1:{http.port}/", f"rtsp://127.0.0.1:{rtsp.port}/"
        with Watched(victim, other) as watched:
            assert eventually(lambda: watched.count(0) > 2 and watched.count(1) > 2)
            killed = decoder_of(victim)
            os.kill(killed, number)
            assert eventually(lambda: watched.kinds(0).count("connected") == 2)
            before, at_other = watched.count(0), watched.count(1)
            assert eventually(lambda: watched.count(0) > before + 2 and watched.count(1) > at_other + 2)
            assert decoder_of(victim) not in {0, killed}
            assert watched.kinds(0) == ["connected", "lost", "connected"]
            assert watched.kinds(1) == ["connected"]
            message = watched.told[0][1].message
            for indices in watched.indices:
                assert indices == sorted(set(indices))
    assert message.startswith(
        f"http://127.0.0.1:{http.port}/ cannot be decoded: its decoder was ended by {number.name}"
    )
    assert "; tried again in " in message
    assert PASSWORD not in message
    assert eventually(lambda: not Path(f"/proc/{killed}").exists())


def test_a_killed_worker_and_its_decoder_are_replaced(video: Path) -> None:
    with mjpeg_server(video) as server:
        address = f"http://127.0.0.1:{server.port}/"
        with Watched(address) as watched:
            assert eventually(lambda: watched.count(0))
            (worker,) = [one.pid for one in camera_workers.processes]
            decoder = decoder_of(address)
            os.kill(worker, signal.SIGKILL)
            assert eventually(lambda: watched.kinds(0) == ["connected", "lost", "connected"])
            assert eventually(lambda: not Path(f"/proc/{decoder}").exists())


@pytest.mark.slow
def test_a_decoder_that_hangs_is_replaced(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with mjpeg_server(video) as server, monkeypatch.context() as impatient:
        impatient.setattr(live_samples, "_SILENCE_S", 4.0)
        address = f"http://127.0.0.1:{server.port}/"
        with Watched(address) as watched:
            assert eventually(lambda: watched.count(0))
            impatient.undo()  # opening it again may take longer than that
            hanging, before = decoder_of(address), len(watched.kinds(0))
            os.kill(hanging, signal.SIGSTOP)
            eventually(lambda: len(watched.kinds(0)) >= before + 2)
            assert watched.kinds(0)[before:] == ["lost", "connected"]
            assert eventually(lambda: not Path(f"/proc/{hanging}").exists())
    assert "its decoder was ended because it did nothing for too long" in watched.told[0][before].message


@pytest.mark.slow
def test_a_source_of_which_few_frames_are_sampled_is_not_taken_for_silent(
    video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_samples, "_SILENCE_S", 4.0)
    with mjpeg_server(video) as server, Watched(f"http://127.0.0.1:{server.port}/", sampled_fps=0.01) as watched:
        assert eventually(lambda: watched.count(0))
        before = watched.kinds(0)
        assert before[-1] == "connected"
        time.sleep(5.5)
        assert watched.kinds(0) == before


def test_a_source_is_confined(video: Path) -> None:
    with mjpeg_server(video) as server:
        address = f"http://127.0.0.1:{server.port}/"
        with opened(LiveInput("door", address)) as samples:
            assert next(samples).frame.shape == (32, 32, 3)
            status = Path(f"/proc/{decoder_of(address)}/status").read_text()
            descriptors = list(Path(f"/proc/{camera_workers.processes[0].pid}/fd").iterdir())
    assert "NoNewPrivs:\t1" in status
    assert "Seccomp:\t2" in status
    assert len(descriptors) <= 6
    with (
        pytest.raises(SourceError, match=r"door cannot be opened|door cannot be reached"),
        opened(LiveInput("door", f"file://{video}")),
    ):
        """Not reached: the file can be read by this user, and not by that process."""


@contextlib.contextmanager
def opened(source: LiveInput, stop: threading.Event | None = None) -> Iterator[Iterator[live_samples.LiveSample]]:
    with open_live(source, ArrivalSampler(1000.0), 32, stop or threading.Event()) as samples:
        yield samples


def test_a_device_that_is_not_there() -> None:
    with (
        pytest.raises(SourceError, match="/dev/video97 cannot be opened; see whether it is there"),
        opened(parse_source("97").to_input()),
    ):
        """Not reached."""


def test_a_camera_that_connects_to_us(tmp_path: Path) -> None:
    path = write_numbered(tmp_path / "v.ts", 40, codec="mpeg2video")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def send() -> None:
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)) as connection:
                connection.sendall(path.read_bytes())
                return
            time.sleep(0.05)

    sender = threading.Thread(target=send)
    sender.start()
    with opened(parse_source(f"tcp://127.0.0.1:{port}?listen=1").to_input()) as samples:
        assert read_number(next(samples).frame) == 0
    sender.join()


def test_to_stop_ends_a_wait_at_once(video: Path) -> None:
    stop = threading.Event()
    with mjpeg_server(video) as server, opened(LiveInput("door", f"http://127.0.0.1:{server.port}/"), stop) as samples:
        next(samples)
        stop.set()
        server.stopped.set()
        with pytest.raises(Stopped):
            list(samples)
    assert camera_workers.processes == []


def test_frames_for_which_nobody_has_room_are_dropped_and_counted(tmp_path: Path) -> None:
    path = write_numbered(tmp_path / "v.mp4", 100)
    source, out = os.pipe()
    with (
        mjpeg_server(path, fps=400) as server,
        os.fdopen(source, "rb") as taken,
        contextlib.suppress(BrokenPipeError),  # of what the buffer still holds
        os.fdopen(out, "wb") as sent,
    ):
        channel = Channel(io.BytesIO(), sent)

        def send() -> None:
            with contextlib.suppress(BrokenPipeError):
                send_samples(reader, ArrivalSampler(1e6), 16, channel)

        with LiveReader(LiveInput("door", f"http://127.0.0.1:{server.port}/")) as reader:
            sender = threading.Thread(target=send)
            sender.start()
            assert eventually(lambda: not channel.has_room)
            time.sleep(0.2)
            assert any(b'"dropped": 0' not in line for line in lines_of(taken))
            server.stopped.set()
            taken.close()
            sender.join(20)
            assert not sender.is_alive()


def lines_of(taken: io.BufferedReader) -> Iterator[bytes]:
    """The lines of messages whose payloads have 16 x 16 pixels."""
    while line := taken.readline():
        yield line
        taken.read(16 * 16 * 3)


def sample(**values: object) -> dict[str, object]:
    now_s = time.monotonic()
    return {"index": 0, "arrived_s": now_s, "origin_s": now_s, "dropped": 0, **values}


@pytest.mark.parametrize(
    "values",
    [
        sample(arrived_s=math.nan),
        sample(arrived_s="x"),
        sample(dropped=None),
        {"index": 3},
    ],
)
def test_a_decoder_that_was_taken_over_sends_no_frame(values: dict[str, object]) -> None:
    messages = iter([Message(values, bytearray(4 * 4 * 3))])
    with pytest.raises(SourceError, match="door cannot be decoded: its decoder sent no frame"):
        list(live_samples._samples("door", messages, ArrivalSampler(10.0), 4))


def test_a_decoder_that_was_taken_over_claims_no_other_time_or_size() -> None:
    far = sample(arrived_s=time.monotonic() + 1e9)
    sampler, payload = ArrivalSampler(10.0), bytearray(4 * 4 * 3)
    messages = iter(
        [Message(sample(index=10**9), payload), Message(far, payload), Message(sample(dropped=-5), payload)]
    )
    found = list(live_samples._samples("door", messages, sampler, 4))
    assert [one.index for one in found] == [0]
    assert [one.dropped for one in found] == [0]
    with pytest.raises(SourceError, match="sent no frame"):
        list(live_samples._samples("door", iter([Message(sample(), bytearray(5))]), ArrivalSampler(10.0), 4))


def below(pid: int) -> list[int]:
    """All processes that a process has started, and that those have started."""
    found = children(pid)
    return [*found, *(one for child in found for one in below(child))]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_a_watch_and_none_shows_a_password(
    video: Path, tmp_path: Path, number: signal.Signals
) -> None:
    bundle = make_tiny_bundle(tmp_path / "bundle")
    with two_servers(video) as (http, rtsp):
        addresses = [
            f"http://user:{PASSWORD}@127.0.0.1:{http.port}/?token={PASSWORD}",
            f"rtsp://user:{PASSWORD}@127.0.0.1:{rtsp.port}/",
        ]
        options = ("--bundle", str(bundle.root), "--window", "0.4", "--json")
        with subprocess.Popen(
            [sys.executable, "-m", "vdeploy", "watch", *addresses, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        ) as watching:
            assert watching.stdout is not None
            seen = []
            while sum('"kind": "window"' in line for line in seen) < 2 and (line := watching.stdout.readline()):
                seen.append(line)
            pids = below(watching.pid)
            shown = "".join(
                Path(f"/proc/{pid}/{name}").read_text(errors="replace")
                for pid in (watching.pid, *pids)
                for name in ("cmdline", "environ")
                if os.access(f"/proc/{pid}/{name}", os.R_OK)
            )
            watching.send_signal(number)
            output, errors = watching.communicate(timeout=30)
    assert len(pids) >= 4, "a worker and a confined process of each camera"
    assert PASSWORD not in shown + "".join(seen) + output + errors
    assert watching.returncode == (-signal.SIGKILL if number == signal.SIGKILL else 0)
    assert errors == ""
    assert eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
