"""Addresses that users mistype are refused in one line, and no secret of theirs is shown."""

from __future__ import annotations

import pytest

from vdeploy.core.errors import SourceError
from vdeploy.live.addresses import shown_address, split_address
from vdeploy.live.source import parse_source, parse_sources
from vdeploy.live.webhook import Webhook

MALFORMED = [
    "rtsp://user:pa/ss@camera/live",
    "rtsp://user:pa#ss@camera/live",
    "rtsp://user:pa?ss@camera/live",
    "rtsp://user:/ss@camera/live",
    "rtsp://us@er:pa/ss@camera/live",
    "rtsp://user:pass@camera:99999/live",
    "rtsp://user:pass@camera:0/live",
    "rtsp://user:pass@camera:port/live",
    "rtsp://user:pass@[::1/live",
    "rtsp://user:pass@::1/live",
    "rtsp://user:pa ss@camera/live",
    "rtsp://user:pass@camera/li\nve",
]


@pytest.mark.parametrize("address", MALFORMED)
def test_a_malformed_address_is_refused_without_its_password(address: str) -> None:
    with pytest.raises(
        SourceError, match=r"no valid (address|host and port); write it as SCHEME://USER:PASSWORD@"
    ) as caught:
        parse_source(address)
    message = str(caught.value)
    assert "pa" not in message.replace("PATH", "").replace("password", "")
    assert "ss@" not in message
    assert "user" not in message
    assert "\n" not in message


@pytest.mark.parametrize("address", MALFORMED)
def test_a_malformed_address_of_a_web_server_is_refused_likewise(address: str) -> None:
    with pytest.raises(SourceError) as caught:
        Webhook(address.replace("rtsp", "https"))
    assert "pass" not in str(caught.value)
    assert "user" not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtsp://user:secret@camera:554/live?token=secret#secret", "rtsp://camera:554/live"),
        ("rtsp://camera/live", "rtsp://camera/live"),
        ("http://[::1]:8080/x", "http://[::1]:8080/x"),
        ("rtsp://us%40er:p%2Fss@camera/live", "rtsp://camera/live"),
        ("udp://@239.0.0.1:1234", "udp://239.0.0.1:1234"),
        ("rtsp://user:secret@camera/a@b", "rtsp://camera/a@b"),
        ("rtsp://user:12/34@camera/live", "rtsp://camera/live"),
        ("rtsp://user:se/cret@camera/live?x=1", "rtsp://camera/live"),
        ("user:secret@camera", "camera"),
    ],
)
def test_an_address_is_shown_without_its_secrets(address: str, shown: str) -> None:
    assert shown_address(address) == shown


def test_an_address_is_taken_apart() -> None:
    parts = split_address("rtsp://us%40er:p%2Fss@[::1]:554/live?x=1")
    assert (parts.hostname, parts.port, parts.path) == ("::1", 554, "/live")


def test_one_malformed_address_is_named_among_others() -> None:
    with pytest.raises(SourceError, match=r"rtsp://camera2:99999/x has no valid host and port"):
        parse_sources(["rtsp://camera1/x", "rtsp://u:p@camera2:99999/x"])
