from __future__ import annotations

import signal
import socket
import ssl
import subprocess
from pathlib import Path

import httpx
import numpy as np
import pytest

from testing.running_gateway import Running, running_gateway
from testing.streams import mjpeg_server
from testing.videos import write_numbered
from testing.waiting import eventually
from tests.gateway.test_gateway_predict import npy, send
from vdeploy.gateway.keys import KeyFile

FRAMES = {"content": npy(np.zeros((4, 32, 32, 3), np.uint8)), "headers": {"Content-Type": "application/octet-stream"}}


def test_it_is_alive_and_ready_and_says_what_it_serves(gateway: Running):
    with gateway.client() as client:
        assert client.get("/healthz").json() == {"status": "ok"}
        assert client.get("/readyz").json() == {"status": "ready"}
        about = client.get("/model").json()
    assert about["clip"] == {"frames": 4, "size": 32, "fit": "squeeze"}
    assert about["max_upload_bytes"] == 1 << 20
    assert not about["api_key_required"]


def test_metrics_count_what_happens(gateway: Running):
    with gateway.client() as client:
        client.post("/predict/frames", **FRAMES)
        client.get("/nowhere")
        text = client.get("/metrics").text
    assert 'vdeploy_gateway_requests_total{method="POST",route="/predict/frames",status="200"}' in text
    assert 'route="unknown",status="404"' in text
    assert "/nowhere" not in text
    assert "vdeploy_gateway_waiting_clips 0.0" in text


def test_every_answer_has_an_id_and_security_headers(gateway: Running):
    with gateway.client() as client:
        given = client.get("/healthz", headers={"X-Request-ID": "mine-1"})
        odd = client.get("/healthz", headers={"X-Request-ID": 'not an id"}'})
        missing = client.get("/nowhere")
    assert given.headers["X-Request-ID"] == "mine-1"
    assert len(odd.headers["X-Request-ID"]) == 32
    assert missing.json()["error"]["request_id"] == missing.headers["X-Request-ID"]
    assert missing.json()["error"]["code"] == "not_found"
    assert given.headers["X-Content-Type-Options"] == "nosniff"
    assert "server" not in given.headers


def test_a_method_that_a_route_does_not_have_is_refused(gateway: Running):
    with gateway.client() as client:
        answer = client.get("/predict")
    assert answer.status_code == 405
    assert answer.json()["error"]["code"] == "method_not_allowed"
    assert answer.headers["Allow"] == "POST"


def test_a_stream_tells_windows_events_and_its_end(gateway: Running, video: Path):
    with gateway.client() as client:
        begun = client.post("/streams", files={"video": video.read_bytes()}, params={"window_s": 1, "stride_s": 0.5})
        assert begun.status_code == 201
        address = begun.json()["events_url"]
        text = client.get(address).text
        kinds = [line.removeprefix("event: ") for line in text.splitlines() if line.startswith("event: ")]
        assert kinds.count("window") == 7
        assert kinds[-2:] == ["timeline", "end"]
        rest = client.get(address, headers={"Last-Event-ID": str(len(kinds) - 1)}).text
        assert rest.startswith(f"id: {len(kinds)}\nevent: end")
        assert not gateway.files()
        assert client.delete(f"/streams/{begun.json()['id']}").status_code == 204
        assert client.get(address).status_code == 404


def test_a_stream_of_no_video_ends_with_an_error(gateway: Running):
    with gateway.client() as client:
        begun = client.post("/streams", files={"video": b"dear diary"})
        text = client.get(begun.json()["events_url"]).text
    assert '"code":"unreadable_video"' in text
    assert '"state":"failed"' in text
    assert not gateway.files()


@pytest.mark.slow
def test_a_deleted_stream_stops(bundle_dir: Path, tmp_path: Path):
    video = write_numbered(tmp_path / "long.mp4", 3000)
    with running_gateway(tmp_path / "spool", "--bundle", str(bundle_dir)) as gateway, gateway.client() as client:
        begun = client.post("/streams", files={"video": video.read_bytes()}, params={"window_s": 0.5, "stride_s": 0.1})
        assert client.delete(f"/streams/{begun.json()['id']}").status_code == 204
        assert eventually(lambda: not gateway.files())
        assert eventually(lambda: "vdeploy_gateway_streams 0.0" in client.get("/metrics").text)


@pytest.mark.slow
def test_keys_are_asked_for(bundle_dir: Path, tmp_path: Path, video: Path):
    file = tmp_path / "keys.json"
    keys = KeyFile(file)
    secret, other = keys.add("door"), keys.add("window")
    assert secret not in file.read_text()
    with running_gateway(tmp_path / "spool", "--bundle", str(bundle_dir), "--api-keys", str(file)) as gateway:
        with gateway.client() as client:
            assert client.get("/readyz").status_code == 200
            refused = client.post("/predict", files={"video": video.read_bytes()})
            assert refused.status_code == 401
            assert refused.headers["WWW-Authenticate"] == "Bearer"
            assert client.post("/predict/frames", **FRAMES).status_code == 401
        with gateway.client(headers={"Authorization": f"Bearer {secret}"}) as client:
            assert client.post("/predict", files={"video": video.read_bytes()}).status_code == 200
            begun = client.post("/streams", files={"video": video.read_bytes()}).json()
        with gateway.client(headers={"X-API-Key": other}) as client:
            assert client.post("/predict", files={"video": video.read_bytes()}).status_code == 200
            assert client.get(begun["events_url"]).status_code == 404
        keys.revoke("door")
        with gateway.client(headers={"Authorization": f"Bearer {secret}"}) as client:
            assert client.get(begun["events_url"]).status_code == 401
        callers = {None, "door", "window"}
        assert eventually(lambda: {record["client"] for record in gateway.records("request")} == callers)
        assert secret not in "".join(gateway.lines)


@pytest.mark.slow
def test_a_key_may_not_take_all_places(bundle_dir: Path, tmp_path: Path):
    file = tmp_path / "keys.json"
    secret = KeyFile(file).add("door")
    options = ("--api-keys", str(file), "--max-per-key", "1", "--max-requests", "2")
    with running_gateway(tmp_path / "spool", "--bundle", str(bundle_dir), *options) as gateway:
        header = {"Authorization": f"Bearer {secret}"}
        with slow_upload(gateway, f"Authorization: Bearer {secret}\r\n"), gateway.client(headers=header) as client:
            answer = client.post("/predict", files={"video": b"x"})
            assert answer.status_code == 429
            assert answer.headers["Retry-After"] == "1"


@pytest.mark.slow
def test_more_requests_than_fit_are_told_to_come_back(bundle_dir: Path, tmp_path: Path):
    options = ("--bundle", str(bundle_dir), "--max-requests", "1")
    with running_gateway(tmp_path / "spool", *options) as gateway, gateway.client() as client, slow_upload(gateway):
        answer = client.post("/predict", files={"video": b"x"})
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "busy"
        assert int(answer.headers["Retry-After"]) >= 1
        assert client.get("/healthz").status_code == 200


@pytest.mark.slow
def test_sigterm_lets_a_request_finish_and_leaves_nothing(bundle_dir: Path, tmp_path: Path, video: Path):
    with running_gateway(tmp_path / "spool", "--bundle", str(bundle_dir)) as gateway:
        send(gateway, video.read_bytes())
        children = gateway.children()
        assert children
        with slow_upload(gateway, content=video.read_bytes()) as upload:
            assert eventually(gateway.files)
            gateway.process.send_signal(signal.SIGTERM)
            assert eventually(lambda: gateway.records("draining"))
            upload.finish()
            assert b" 200 OK" in upload.answer()
        assert gateway.process.wait(30) == 0
        assert not list((tmp_path / "spool").rglob("*"))
        assert eventually(lambda: not any(Path(f"/proc/{child}").exists() for child in children))


@pytest.mark.slow
def test_what_a_killed_gateway_left_is_gone_after_the_next_start(bundle_dir: Path, tmp_path: Path, video: Path):
    spool = tmp_path / "spool"
    with running_gateway(spool, "--bundle", str(bundle_dir)) as gateway:
        send(gateway, video.read_bytes())
        children = gateway.children()
        with slow_upload(gateway, content=video.read_bytes()):
            assert eventually(gateway.files)
            assert gateway.stop(signal.SIGKILL) == -signal.SIGKILL
    assert [path for path in spool.rglob("*") if path.is_file()]
    assert eventually(lambda: not any(Path(f"/proc/{child}").exists() for child in children))
    with running_gateway(spool, "--bundle", str(bundle_dir)) as gateway:
        assert not gateway.files()


@pytest.mark.slow
def test_tls(bundle_dir: Path, tmp_path: Path):
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    try:
        subprocess.run(
            [
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-keyout",
                key,
                "-out",
                cert,
                "-days",
                "1",
                "-subj",
                "/CN=localhost",
                "-addext",
                "subjectAltName=IP:127.0.0.1",
            ],
            check=True,
            capture_output=True,
        )
    except FileNotFoundError:
        pytest.skip("needs openssl")
    options = ("--tls-cert", str(cert), "--tls-key", str(key))
    with running_gateway(tmp_path / "spool", "--bundle", str(bundle_dir), *options) as gateway:
        assert gateway.url.startswith("https://")
        context = ssl.create_default_context(cafile=str(cert))
        assert httpx.get(f"{gateway.url}/healthz", verify=context, trust_env=False).status_code == 200


class SlowUpload:
    """A client that sends a form without its end, and then waits."""

    def __init__(self, gateway: Running, header: str, content: bytes) -> None:
        body = b'--x\r\nContent-Disposition: form-data; name="video"; filename="a"\r\n\r\n' + content
        self._rest = b"\r\n--x--\r\n"
        host, port = gateway.url.removeprefix("http://").split(":")
        self._socket = socket.create_connection((host, int(port)), timeout=60)
        head = (
            f"POST /predict HTTP/1.1\r\nHost: {host}\r\nContent-Type: multipart/form-data; boundary=x\r\n"
            f"Content-Length: {len(body) + len(self._rest)}\r\nConnection: close\r\n{header}\r\n"
        )
        self._socket.sendall(head.encode() + body)
        self._metrics = f"{gateway.url}/metrics"

    def __enter__(self) -> SlowUpload:
        assert eventually(self._is_in_work)
        return self

    def _is_in_work(self) -> bool:
        return "vdeploy_gateway_requests_in_work 1.0" in httpx.get(self._metrics, trust_env=False).text

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def finish(self) -> None:
        self._socket.sendall(self._rest)

    def answer(self) -> bytes:
        content = b""
        while chunk := self._socket.recv(65_536):
            content += chunk
        return content


def slow_upload(gateway: Running, header: str = "", content: bytes = b"x") -> SlowUpload:
    return SlowUpload(gateway, header, content)


@pytest.mark.slow
def test_a_camera_is_watched_until_it_is_deleted_and_tried_again_when_lost(
    bundle_dir: Path, tmp_path: Path, video: Path
):
    with mjpeg_server(video, fps=25) as camera:
        options = ("--bundle", str(bundle_dir), "--camera", f"door=http://127.0.0.1:{camera.port}/")
        with running_gateway(tmp_path / "spool", *options) as gateway, gateway.client() as client:
            assert client.post("/streams/live", json={"source": "http://127.0.0.1/"}).status_code == 404
            begun = client.post("/streams/live", json={"source": "door", "window_s": 0.4, "stride_s": 0.2})
            assert begun.status_code == 201
            wanted = iter(("window", "window", "lost", "window"))
            kind = next(wanted)
            with client.stream("GET", begun.json()["events_url"]) as answer:
                for line in answer.iter_lines():
                    if line != f"event: {kind}":
                        continue
                    if (kind := next(wanted, "")) == "lost":
                        camera.is_open = False
                    elif kind == "window":
                        camera.is_open = True
                    if not kind:
                        break
            assert camera.connections >= 2
            assert client.delete(f"/streams/{begun.json()['id']}").status_code == 204
            assert eventually(lambda: not gateway.children())
            assert str(camera.port) not in "".join(line for line in gateway.lines if line.startswith("{"))
