"""Reports reach a real web server, whatever it does, and nobody waits for it."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
import time
from collections.abc import Iterator

import pytest

from vdeploy.core.errors import SourceError
from vdeploy.live import webhook
from vdeploy.live.report import Report
from vdeploy.live.webhook import Webhook
from vdeploy.timeline.events import Event


class Receiver(http.server.ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.received: list[dict] = []
        self.answers: list[int] = []
        self.location = ""
        self.gate = threading.Event()
        self.gate.set()

    @property
    def address(self) -> str:
        return f"http://user:secret@127.0.0.1:{self.server_address[1]}/hook?token=secret"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        self.server.gate.wait(30)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        code = self.server.answers.pop(0) if self.server.answers else 204
        assert self.headers["Authorization"] == "Basic dXNlcjpzZWNyZXQ="
        if code < 300:
            self.server.received.append(body)
        with contextlib.suppress(OSError):
            self.send_response(code)
            if self.server.location:
                self.send_header("Location", self.server.location)
            self.end_headers()

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def receiver(monkeypatch) -> Iterator[Receiver]:
    monkeypatch.setattr(webhook, "_FIRST_WAIT_S", 0.01)
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.gate.set()
        server.shutdown()
        thread.join()


def report(number: int = 0) -> Report:
    return Report("event_began", "door", event=Event(number, number + 2.0, number + 1.0, 0.9, 0.8), latency_ms=12.5)


def test_reports_arrive_in_order_as_json(receiver):
    with Webhook(receiver.address) as hook:
        for number in range(5):
            hook.send(report(number))
    assert [body["event"]["start_s"] for body in receiver.received] == list(range(5))
    assert receiver.received[0] == report().to_dict() | {"at": receiver.received[0]["at"]}
    assert "window" not in receiver.received[0]
    assert (hook.delivered, hook.failed) == (5, 0)


def test_a_server_in_trouble_is_asked_again(receiver):
    receiver.answers = [503, 500, 429]
    with Webhook(receiver.address) as hook:
        hook.send(report())
    assert len(receiver.received) == 1
    assert (hook.delivered, hook.failed) == (1, 0)


@pytest.mark.parametrize(("answers", "reason"), [([404], "it answers 404"), ([500] * 4, "it answers 500")])
def test_a_report_that_is_not_taken_is_counted(receiver, answers, reason):
    receiver.answers = answers
    with Webhook(receiver.address) as hook:
        hook.send(report(1))
        hook.send(report(2))
    assert [body["event"]["start_s"] for body in receiver.received] == [2]
    assert (hook.delivered, hook.failed) == (1, 1)
    assert hook.last_error.endswith(f"/hook: {reason}")
    assert "secret" not in hook.last_error


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirection_is_not_followed(receiver, code):
    with Receiver() as other:
        thread = threading.Thread(target=other.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        connections = []
        other.verify_request = lambda *_: connections.append(1) or True
        receiver.answers, receiver.location = [code], f"http://127.0.0.1:{other.server_address[1]}/stolen"
        try:
            with Webhook(receiver.address) as hook:
                hook.send(report())
        finally:
            other.shutdown()
            thread.join()
    assert not connections
    assert (hook.delivered, hook.failed) == (0, 1)
    assert hook.last_error.endswith(f"it answers {code}")


def test_a_server_on_this_machine_is_reached_without_a_proxy(receiver, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    with Webhook(receiver.address) as hook:
        hook.send(report())
    assert (hook.delivered, hook.failed) == (1, 0)


@pytest.mark.parametrize(
    "address",
    ["http://user:pa/ss@host/x", "http://user:pa#ss@host", "http://user:pa?ss@host", "http://user:pass@host:99999/x"],
)
def test_a_malformed_address_is_refused_without_its_password(address):
    with pytest.raises(SourceError) as caught:
        Webhook(address)
    assert "pa" not in str(caught.value).partition(";")[0].replace("path", "")
    assert "\n" not in str(caught.value)


def test_nobody_listens(monkeypatch):
    monkeypatch.setattr(webhook, "_FIRST_WAIT_S", 0.01)
    with Webhook("http://127.0.0.1:9/x") as hook:
        hook.send(report())
    assert (hook.delivered, hook.failed) == (0, 1)
    assert "refused" in hook.last_error


def test_a_server_that_hangs_holds_nobody_up(receiver, monkeypatch):
    monkeypatch.setattr(webhook, "_WAITING", 3)
    monkeypatch.setattr(webhook, "_FLUSH_S", 0.2)
    receiver.gate.clear()
    with Webhook(receiver.address) as hook:
        started = time.monotonic()
        for number in range(100):
            hook.send(report(number))
        assert time.monotonic() - started < 1
        assert hook.failed >= 90
        assert hook.last_error.endswith("too many reports wait")
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("address", ["", "door", "ftp://host/x", "http://", "file:///etc/passwd"])
def test_an_address_of_no_web_server(address):
    with pytest.raises(SourceError, match="is no address of a web server; give --webhook http://HOST/PATH"):
        Webhook(address)
