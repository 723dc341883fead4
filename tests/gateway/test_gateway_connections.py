"""Limits before routing: headers, hosts, origins, parts of forms, bodies; and signals."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from testing.running_gateway import Running, running_gateway
from testing.waiting import eventually
from tests.gateway.test_gateway_keys import vdeploy
from tests.gateway.test_gateway_operation import slow_upload
from vdeploy.core.errors import GatewayError
from vdeploy.gateway.keys import KeyFile
from vdeploy.gateway.sites import check_exposure, is_loopback

HEAD = b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=x\r\n"


@contextlib.contextmanager
def connected(gateway: Running) -> Iterator[socket.socket]:
    host, port = gateway.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        yield connection


def flood(connection: socket.socket, piece: bytes, limit: int = 64 << 20) -> int:
    """Send a piece repeatedly until the server closes the connection, or up to a limit; return the bytes sent."""
    sent = 0
    with contextlib.suppress(OSError):
        while sent < limit:
            connection.sendall(piece)
            sent += len(piece)
    return sent


def received(connection: socket.socket) -> bytes:
    content = b""
    with contextlib.suppress(ConnectionError):
        while chunk := connection.recv(65_536):
            content += chunk
    return content


def memory_mib(gateway: Running) -> float:
    pages = int(Path(f"/proc/{gateway.process.pid}/statm").read_text().split()[1])
    return pages * 4096 / (1 << 20)


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        pytest.param(b"GET / HTTP/1.1\r\n", b"X-A: " + b"a" * 1000 + b"\r\n", id="many headers"),
        pytest.param(b"GET / HTTP/1.1\r\nX-A: ", b"a" * 65_536, id="one header"),
        pytest.param(b"GET / HTTP/1.1\r\n", b"a:\r\n" * 10_000, id="tiny headers"),
        pytest.param(b"GET /?", b"a" * 65_536, id="a long address"),
        pytest.param(b"GE", b"T" * 65_536, id="a long method"),
        pytest.param(
            HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X-A: " + b"a" * 1000 + b"\r\n", id="trailers"
        ),
        pytest.param(HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;a=", b"a" * 65_536, id="a chunk extension"),
    ],
)
def test_headers_are_bounded(gateway: Running, start: bytes, piece: bytes):
    before = memory_mib(gateway)
    for _ in range(4):
        with connected(gateway) as connection:
            connection.sendall(start)
            assert flood(connection, piece) < 64 << 20
    assert memory_mib(gateway) < before + 24
    with gateway.client() as client:
        assert client.get("/healthz").status_code == 200


def test_headers_just_over_the_limit_are_answered(gateway: Running):
    with connected(gateway) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: " + b"a" * 66_000 + b"\r\n\r\n")
        answer = received(connection)
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert b'"headers_too_large"' in answer
    with connected(gateway) as connection:
        fields = b"".join(b"X-%d: a\r\n" % number for number in range(200))
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n" + fields + b"\r\n")
        assert received(connection).startswith(b"HTTP/1.1 431 ")


def test_large_headers_that_are_allowed_and_pipelined_requests_are_answered(gateway: Running):
    one = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: " + b"a" * 60_000 + b"\r\n\r\n"
    last = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    with connected(gateway) as connection:
        connection.sendall(one * 4 + last)
        assert received(connection).count(b"HTTP/1.1 200 OK") == 5


@pytest.mark.slow
def test_headers_must_arrive_in_time_and_a_slow_body_is_another_matter(bundle_dir: Path, tmp_path: Path, video: Path):
    with running_gateway(tmp_path / "spool", "--bundle", str(bundle_dir)) as gateway:
        with slow_upload(gateway, content=video.read_bytes()) as upload, connected(gateway) as connection:
            started = time.monotonic()
            connection.sendall(b"GET /healthz HTTP/1.1\r\n")
            answer = received(connection)
            assert answer.startswith(b"HTTP/1.1 408 ")
            assert 8 < time.monotonic() - started < 60
            upload.finish()
            assert b" 200 OK" in upload.answer()
        with connected(gateway) as connection:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            answer = b""
            while not answer.endswith(b"}"):  # headers and body may come apart
                answer += connection.recv(65_536)
            assert answer.startswith(b"HTTP/1.1 200")
            connection.sendall(b"GET")
            started = time.monotonic()
            assert received(connection).startswith(b"HTTP/1.1 408 ")
            assert time.monotonic() - started < 60


def test_a_broken_request_is_refused(gateway: Running):
    with connected(gateway) as connection:
        connection.sendall(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
        answer = received(connection)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b'"invalid_request"' in answer


def form(parts: int, header: bytes = b"") -> bytes:
    part = b'--x\r\nContent-Disposition: form-data; name="a"\r\n' + header + b"\r\n1\r\n"
    return part * parts + b"--x--\r\n"


@pytest.mark.parametrize("body", [form(17), form(1, b"X-A: " + b"a" * 9000 + b"\r\n"), form(1, b"X-A: a\r\n" * 2000)])
def test_parts_of_a_form_and_their_headers_are_bounded(gateway: Running, body: bytes):
    with gateway.client() as client:
        answer = client.post("/predict", content=body, headers={"Content-Type": "multipart/form-data; boundary=x"})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "broken_form"
    assert not gateway.files()


def test_bodies_of_routes_that_take_json_are_bounded(gateway: Running):
    before = memory_mib(gateway)
    head = b"POST /streams/live HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    for _ in range(4):
        with connected(gateway) as connection:
            connection.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n")
            assert flood(connection, b"10000\r\n" + b" " * 65_536 + b"\r\n") < 64 << 20
    assert memory_mib(gateway) < before + 24
    with gateway.client() as client:
        answer = client.post("/streams/live", content=b" " * 70_000, headers={"Content-Type": "application/json"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "upload_too_large")
        nested = client.post("/streams/live", content=b"[" * 60_000, headers={"Content-Type": "application/json"})
        assert nested.status_code in {400, 422}
    assert not gateway.records("unexpected_error")


@pytest.mark.slow
def test_a_small_body_must_arrive_in_time(gateway: Running):
    head = b"POST /streams/live HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    with connected(gateway) as connection:
        connection.sendall(head + b"Content-Length: 100\r\n\r\n{")
        assert received(connection).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8080", 200),
        ("localhost", 200),
        ("LOCALHOST.:1", 200),
        ("[::1]:8080", 200),
        ("10.1.2.3", 200),
        ("attacker.example", 421),
        ("127.0.0.1.attacker.example:8080", 421),
        ("localhost.attacker.example", 421),
        ("[::1", 421),
        ("", 421),
    ],
)
def test_foreign_hosts_are_refused_without_keys(gateway: Running, host: str, status: int):
    with gateway.client() as client:
        assert client.get("/model", headers={"Host": host}).status_code == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "https://attacker.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": "OWN"}, 422),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "OWN"}, 422),
        ({}, 422),
    ],
)
def test_forms_on_pages_of_other_sites_are_refused(gateway: Running, headers: dict[str, str], status: int):
    own = {name: gateway.url if value == "OWN" else value for name, value in headers.items()}
    with gateway.client() as client:
        answer = client.post("/predict", files={"video": b"no video"}, headers=own)
    assert answer.status_code == status
    assert answer.json()["error"]["code"] == ("cross_site" if status == 403 else "unreadable_video")


def test_a_link_on_another_page_may_lead_to_the_page(gateway: Running):
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    with gateway.client() as client:
        assert client.get("/", headers=link).status_code == 200
        assert (
            client.get("/model", headers={"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"}).status_code == 403
        )


@pytest.mark.slow
def test_names_may_be_listed_and_keys_accept_every_host(bundle_dir: Path, tmp_path: Path):
    keys = KeyFile(tmp_path / "keys.json")
    secret = keys.add("door")
    for options, other in (("--allowed-host", "video.example"), 421), (("--api-keys", str(keys.path)), 200):
        gateways = running_gateway(tmp_path / "spool", "--bundle", str(bundle_dir), *options)
        with gateways as gateway, gateway.client(headers={"X-API-Key": secret}) as client:
            listed = {"Host": "video.example", "Origin": "https://video.example"}
            assert client.get("/model", headers=listed).status_code == 200
            assert client.get("/model", headers={"Host": "other.example"}).status_code == other
            assert client.get("/model", headers={"Origin": "https://attacker.example"}).status_code == 403


def test_a_gateway_for_other_machines_does_not_start_without_keys(tmp_path: Path):
    done = vdeploy("gateway", "--bundle", tmp_path, "--host", "0.0.0.0")  # noqa: S104  refused
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "--insecure" in done.stderr


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "10.0.0.1", "no-such-host.invalid"])  # noqa: S104  refused
def test_other_machines_are_not_let_in_without_keys(host: str):
    check_exposure(host, has_keys=True, insecure=False)
    check_exposure(host, has_keys=False, insecure=True)
    with pytest.raises(GatewayError):
        check_exposure(host, has_keys=False, insecure=False)


def test_loopback_is_this_machine_alone():
    assert all(map(is_loopback, ["127.0.0.1", "127.9.9.9", "localhost", "::1"]))
    assert not any(map(is_loopback, ["0.0.0.0", "::", "", "10.0.0.1", "no-such-host.invalid"]))  # noqa: S104


@pytest.mark.slow
def test_sighup_drains_as_sigterm_does(bundle_dir: Path, tmp_path: Path, video: Path):
    with running_gateway(tmp_path / "spool", "--bundle", str(bundle_dir)) as gateway:
        with slow_upload(gateway, content=video.read_bytes()) as upload:
            assert eventually(gateway.files)
            gateway.process.send_signal(signal.SIGHUP)
            assert eventually(lambda: gateway.records("draining"))
            upload.finish()
            assert b" 200 OK" in upload.answer()
        assert gateway.process.wait(30) == 0
        assert not list((tmp_path / "spool").rglob("*"))


@pytest.mark.slow
def test_a_full_spool_says_so(bundle_dir: Path, tmp_path: Path, video: Path):
    spool = tmp_path / "spool"
    spool.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", spool], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a small file system")
    try:
        with running_gateway(spool, "--bundle", str(bundle_dir)) as gateway, gateway.client() as client:
            (spool / "filler").write_bytes(bytes(40_000))
            for path in ("/predict", "/streams"):
                answer = client.post(path, files={"video": video.read_bytes() + bytes(200_000)})
                assert answer.status_code == 503
                assert answer.json()["error"]["code"] == "spool_full"
                assert answer.headers["Retry-After"]
            assert gateway.records("spool_failed")
            assert not gateway.records("unexpected_error")
            (spool / "filler").unlink()
            assert client.post("/predict", files={"video": video.read_bytes()}).status_code == 200
    finally:
        subprocess.run(["umount", spool], check=True)
