"""Streams in the background: their number, their end, and their independence from requests."""

from __future__ import annotations

import concurrent.futures
import contextlib
import fractions
import itertools
import socket
import threading
import time
from collections import Counter
from pathlib import Path

import av
import httpx
import pytest

from testing.running_gateway import Running, running_gateway
from testing.streams import mjpeg_server
from testing.videos import solid_frame
from testing.waiting import eventually
from vdeploy.core.errors import GatewayError
from vdeploy.gateway.decoding.turns import Turns
from vdeploy.gateway.keys import KeyFile

ONE_WINDOW = {"window_s": 600}
"""No window is complete before the end, so that only a check at every frame notices a cancellation early."""


@pytest.fixture(scope="module")
def long_video(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """About ten seconds of decoding: one group of pictures, muxed again and again."""
    path = tmp_path_factory.mktemp("long") / "long.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.gop_size = 1280, 720, 25
        picture = av.VideoFrame.from_ndarray(solid_frame((90, 90, 90), 1280, 720))
        group = [bytes(packet) for _ in range(25) for packet in stream.encode(picture)]
        for number in range(14_000):
            packet = av.Packet(group[number % len(group)])
            packet.stream, packet.pts, packet.dts = stream, number, number
            packet.time_base, packet.is_keyframe = fractions.Fraction(1, 25), number % len(group) == 0
            container.mux(packet)
    return path.read_bytes()


def running_streams(client: httpx.Client) -> int:
    text = client.get("/metrics").text
    return int(
        float(next(line.split()[1] for line in text.splitlines() if line.startswith("vdeploy_gateway_streams ")))
    )


@pytest.mark.slow
def test_begin_and_delete_stay_within_the_limit_and_leave_decoders_to_requests(
    bundle_dir: Path, tmp_path: Path, long_video: bytes, video: Path
):
    statuses: Counter[int] = Counter()
    most = {"streams": 0, "files": 0}
    stop = threading.Event()

    def attack(gateway: Running) -> None:
        with gateway.client() as client:
            while not stop.is_set():
                begun = client.post("/streams", files={"video": long_video}, params=ONE_WINDOW)
                statuses[begun.status_code] += 1
                if begun.status_code == 201:
                    assert client.delete(f"/streams/{begun.json()['id']}").status_code == 204

    options = ("--bundle", str(bundle_dir), "--max-streams", "2", "--stream-decoders", "1", "--decoders", "1")
    with running_gateway(tmp_path / "spool", *options) as gateway, gateway.client() as client:
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            attackers = [pool.submit(attack, gateway) for _ in range(4)]
            try:
                for _ in range(12):
                    assert client.post("/predict", files={"video": video.read_bytes()}).status_code == 200
                    most["streams"] = max(most["streams"], running_streams(client))
                    most["files"] = max(most["files"], len(gateway.files()))
            finally:
                stop.set()
            for attacker in attackers:
                attacker.result(60)
        assert set(statuses) <= {201, 503}
        assert statuses[201] >= 2
        assert most["streams"] <= 2
        assert most["files"] <= 2 + 1
        assert eventually(lambda: running_streams(client) == 0 and not gateway.files())


@pytest.mark.slow
def test_a_deleted_stream_ends_at_its_next_frame(bundle_dir: Path, tmp_path: Path, long_video: bytes):
    options = ("--bundle", str(bundle_dir), "--max-streams", "1")
    with running_gateway(tmp_path / "spool", *options) as gateway, gateway.client() as client:
        begun = client.post("/streams", files={"video": long_video}, params=ONE_WINDOW)
        assert client.post("/streams", files={"video": long_video}).json()["error"]["code"] == "busy"
        assert eventually(gateway.children)
        deleted = time.monotonic()
        assert client.delete(f"/streams/{begun.json()['id']}").status_code == 204
        assert eventually(lambda: running_streams(client) == 0)
        assert time.monotonic() - deleted < 2
        assert not gateway.files()
        assert client.post("/streams", files={"video": long_video}).status_code == 201


@pytest.mark.slow
def test_a_client_that_disconnects_gives_its_decoder_back(
    bundle_dir: Path, tmp_path: Path, long_video: bytes, video: Path
):
    with running_gateway(tmp_path / "spool", "--bundle", str(bundle_dir), "--decoders", "1") as gateway:
        with gateway.client() as client, pytest.raises(httpx.ReadTimeout):
            client.post("/predict", files={"video": long_video}, params={"timeline": True, **ONE_WINDOW}, timeout=1)
        with gateway.client() as client:
            assert eventually(lambda: "requests_in_work 0.0" in client.get("/metrics").text)
            assert client.post("/predict", files={"video": video.read_bytes()}).status_code == 200
        assert not gateway.records("unexpected_error")


@pytest.mark.slow
def test_one_key_does_not_starve_another(bundle_dir: Path, tmp_path: Path, long_video: bytes, video: Path):
    keys = KeyFile(tmp_path / "keys.json")
    greedy, modest = ({"Authorization": f"Bearer {keys.add(name)}"} for name in ("greedy", "modest"))
    options = ("--api-keys", str(keys.path), "--decoders", "2")
    with running_gateway(tmp_path / "spool", "--bundle", str(bundle_dir), *options) as gateway:

        def hold() -> None:
            with gateway.client(headers=greedy) as client, contextlib.suppress(httpx.TimeoutException):
                client.post("/predict", files={"video": long_video}, params={"timeline": True, **ONE_WINDOW}, timeout=6)

        holders = [threading.Thread(target=hold) for _ in range(4)]
        for holder in holders:
            holder.start()
        with gateway.client(headers=modest) as client:
            assert eventually(lambda: "requests_in_work 4.0" in client.get("/metrics").text)
            for _ in range(3):
                assert client.post("/predict", files={"video": video.read_bytes()}, timeout=5).status_code == 200
        for holder in holders:
            holder.join()


@pytest.mark.slow
def test_one_key_does_not_take_every_stream(bundle_dir: Path, tmp_path: Path, video: Path):
    keys = KeyFile(tmp_path / "keys.json")
    greedy, modest = ({"Authorization": f"Bearer {keys.add(name)}"} for name in ("greedy", "modest"))
    with contextlib.ExitStack() as stack:
        camera = stack.enter_context(mjpeg_server(video, fps=25))
        options = ("--api-keys", str(keys.path), "--max-streams", "3", "--max-streams-per-key", "2")
        options += ("--camera", f"door=http://127.0.0.1:{camera.port}/")
        gateway = stack.enter_context(running_gateway(tmp_path / "spool", "--bundle", str(bundle_dir), *options))
        with gateway.client(headers=greedy) as client:
            begun = [client.post("/streams/live", json={"source": "door"}) for _ in range(3)]
            assert [answer.status_code for answer in begun] == [201, 201, 429]
            assert begun[-1].headers["Retry-After"]
        with gateway.client(headers=modest) as client:
            assert client.post("/streams", files={"video": video.read_bytes()}).status_code == 201


@pytest.mark.slow
def test_readers_of_events_are_counted(bundle_dir: Path, tmp_path: Path, video: Path):
    keys = KeyFile(tmp_path / "keys.json")
    one, other = ({"Authorization": f"Bearer {keys.add(name)}"} for name in ("one", "other"))
    with mjpeg_server(video, fps=25) as camera:
        options = ("--api-keys", str(keys.path), "--max-readers", "3", "--max-readers-per-key", "2")
        cameras = ("--camera", f"door=http://127.0.0.1:{camera.port}/")
        with running_gateway(tmp_path / "spool", "--bundle", str(bundle_dir), *options, *cameras) as gateway:
            with gateway.client(headers=one) as client, contextlib.ExitStack() as reading:
                address = client.post("/streams/live", json={"source": "door"}).json()["events_url"]
                for _ in range(2):
                    assert reading.enter_context(client.stream("GET", address)).status_code == 200
                refused = client.get(address)
                assert refused.status_code == 429
                with gateway.client(headers=other) as neighbour:
                    theirs = neighbour.post("/streams/live", json={"source": "door"}).json()["events_url"]
                    assert reading.enter_context(neighbour.stream("GET", theirs)).status_code == 200
                    assert neighbour.get(theirs).json()["error"]["code"] == "busy"
            with gateway.client(headers=one) as client:
                assert eventually(lambda: "event_readers 0.0" in client.get("/metrics").text)


@pytest.mark.slow
def test_a_camera_that_nobody_reads_is_no_longer_watched(bundle_dir: Path, tmp_path: Path, video: Path):
    with mjpeg_server(video, fps=25) as camera:
        options = ("--stream-idle", "2", "--camera", f"door=http://127.0.0.1:{camera.port}/")
        gateways = running_gateway(tmp_path / "spool", "--bundle", str(bundle_dir), *options)
        with gateways as gateway, gateway.client() as client:
            address = client.post("/streams/live", json={"source": "door"}).json()["events_url"]
            started = time.monotonic()
            with client.stream("GET", address) as events:
                for line in events.iter_lines():
                    assert line != "event: end"
                    if time.monotonic() - started > 4:
                        break
            assert eventually(lambda: running_streams(client) == 0)
            assert '"reason":"no reader for 2 s"' in client.get(address).text


def test_owners_take_turns_within_their_share():
    turns = Turns(["a", "b"], share=lambda: 1)
    waited = []

    def forbid() -> None:
        waited.append(1)

    with turns.borrow("one", 0.0, forbid):
        with pytest.raises(TimeoutError), turns.borrow("one", 0.05, forbid):
            pytest.fail("one owner holds two")
        with turns.borrow("other", 0.0, forbid):
            pass
    assert waited
    with turns.borrow("one", 0.0, forbid) as thing:
        assert thing in {"a", "b"}


def test_who_has_held_more_than_the_average_is_heavy_until_that_is_long_ago(monkeypatch: pytest.MonkeyPatch):
    now = 100.0
    monkeypatch.setattr("vdeploy.gateway.decoding.turns.time.monotonic", lambda: now)
    turns = Turns(["a", "b"], share=lambda: 1)

    def hold(owner: str, seconds: float) -> None:
        nonlocal now
        with turns.borrow(owner, 0.0, lambda: None):
            now += seconds

    hold("alone", 5.0)
    assert not turns.is_heavy("alone")
    hold("modest", 1.0)
    assert (turns.is_heavy("alone"), turns.is_heavy("modest"), turns.is_heavy("new")) == (True, False, False)
    now += 200.0
    hold("modest", 1.0)
    assert (turns.is_heavy("alone"), turns.is_heavy("modest")) == (False, False)


def test_what_is_still_held_counts_and_who_has_no_name_does_not(monkeypatch: pytest.MonkeyPatch):
    now = 100.0
    monkeypatch.setattr("vdeploy.gateway.decoding.turns.time.monotonic", lambda: now)
    turns = Turns(["a", "b", "c"], share=lambda: 2)
    with turns.borrow("long", 0.0, lambda: None), turns.borrow("", 0.0, lambda: None):
        now += 60.0
        assert (turns.is_heavy("long"), turns.is_heavy("")) == (False, False)
        with turns.borrow("short", 0.0, lambda: None):
            now += 1.0
        assert (turns.is_heavy("long"), turns.is_heavy("short"), turns.is_heavy("")) == (True, False, False)


def test_an_owner_gets_what_it_held_before_else_what_is_idle_the_longest():
    turns = Turns(["a", "b", "c"], share=lambda: 1)

    def hold(owner: str) -> str:
        with turns.borrow(owner, 0.0, lambda: None) as thing:
            return thing

    assert [hold(owner) for owner in ("one", "two", "one", "three", "two")] == ["a", "b", "a", "c", "b"]


def test_the_owner_that_holds_least_is_served_first():
    turns = Turns(["a", "b"], share=lambda: 2)
    order: list[str] = []

    def work(owner: str) -> None:
        with turns.borrow(owner, 10.0, lambda: None):
            order.append(owner)

    with contextlib.ExitStack() as held:
        for _ in range(2):
            held.enter_context(turns.borrow("greedy", 0.0, lambda: None))
        threads = [threading.Thread(target=work, args=(owner,)) for owner in ("greedy", "greedy", "modest")]
        for thread in threads:
            thread.start()
            time.sleep(0.1)
    for thread in threads:
        thread.join()
    assert order[0] == "modest" or order[:2] == ["greedy", "modest"]


@pytest.mark.parametrize("name", ["", " ", "a\nb", "a\x1b[2J"])
def test_a_key_needs_a_printable_name(tmp_path: Path, name: str):
    with pytest.raises(GatewayError, match="cannot name a key"):
        KeyFile(tmp_path / "keys.json").add(name)
    assert not (tmp_path / "keys.json").exists()


@pytest.mark.slow
def test_a_reader_that_takes_nothing_loses_its_connection(bundle_dir: Path, tmp_path: Path, long_video: bytes):
    with running_gateway(tmp_path / "spool", "--bundle", str(bundle_dir)) as gateway, gateway.client() as client:
        begun = client.post("/streams", files={"video": long_video}, params={"window_s": 0.2, "stride_s": 0.04}).json()
        host, port = gateway.url.removeprefix("http://").split(":")
        with socket.socket() as reader:
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.connect((host, int(port)))
            reader.sendall(f"GET {begun['events_url']} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            assert eventually(lambda: "event_readers 1.0" in client.get("/metrics").text)
            assert eventually(lambda: "event_readers 0.0" in client.get("/metrics").text, 90)
        assert running_streams(client) == 1 or '"state":"finished"' in client.get(begun["events_url"]).text


@pytest.mark.slow
def test_a_file_as_a_camera_is_scored_from_its_start(bundle_dir: Path, tmp_path: Path, video: Path):
    options = ("--bundle", str(bundle_dir), "--camera", f"film={video}")
    with running_gateway(tmp_path / "spool", *options) as gateway, gateway.client() as client:
        address = client.post("/streams/live", json={"source": "film", "window_s": 0.4}).json()["events_url"]
        with client.stream("GET", address) as events:
            seen = list(itertools.takewhile(lambda line: "lost" not in line, events.iter_lines()))
    assert seen.count("event: window") >= 2
    first = next(line for line in seen if line.startswith("data: ") and "start_s" in line)
    assert '"start_s":0.0' in first.replace(" ", "")
