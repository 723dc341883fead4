"""What users type as a source, and how its secrets stay secret."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from testing.videos import write_numbered
from vdeploy.core.errors import ClipError, SourceError
from vdeploy.live.camera import backoff_s
from vdeploy.live.source import Source, parse_source, parse_sources
from vdeploy.video.live_reader import LiveReader


def test_kinds(tmp_path):
    video = write_numbered(tmp_path / "v.mp4", 5)
    assert parse_source(str(video)) == Source(str(video), str(video), "file")
    assert parse_source("0") == Source("/dev/video0", "/dev/video0", "device")
    assert parse_source("/dev/video12") == Source("/dev/video12", "/dev/video12", "device")
    assert parse_source("RTSP://host/x").kind == "stream"


def test_passwords_are_not_shown():
    source = parse_source("rtsp://user:secret@camera:554/live?token=secret#secret")
    assert source.name == "rtsp://camera:554/live"
    assert "secret" not in repr(source)
    assert source.target == "rtsp://user:secret@camera:554/live?token=secret#secret"


def test_sources_that_differ_in_secrets_only_keep_apart():
    names = [source.name for source in parse_sources(["http://h/x?id=1", "http://h/x?id=2", "http://h/x?id=1"])]
    assert names == ["http://h/x", "http://h/x #2"]


@pytest.mark.parametrize("text", ["ftp://host/video.mp4", "file:///etc/passwd", "concat://a"])
def test_other_schemes_are_refused(text):
    with pytest.raises(SourceError, match=r"is no scheme of a stream; known are http, https, rtmp, rtsp"):
        parse_source(text)


def test_a_file_that_is_not_there():
    with pytest.raises(ClipError, match="does not exist"):
        parse_source("absent.mp4")


def test_a_host_that_does_not_answer():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://u:secret@127.0.0.1:{closed.getsockname()[1]}/x"
        with pytest.raises(SourceError, match=r"http://127\.0\.0\.1:\d+/x cannot be reached \(.*refused\)") as caught:
            LiveReader(parse_source(address).to_input())
    assert "secret" not in str(caught.value)


def test_a_device_that_is_not_there():
    with pytest.raises(SourceError, match="/dev/video97 cannot be opened; see whether it is there"):
        LiveReader(parse_source("97").to_input())


def test_waits_grow_up_to_half_a_minute():
    waits = [backoff_s(failures) for failures in range(1, 200)]
    assert 0.4 <= waits[0] <= 0.6
    assert 24 <= waits[-1] <= 36
    assert max(waits) <= 36
    assert waits[1] > waits[0] / 1.5


def test_nothing_is_written_to_stderr(tmp_path):
    code = (
        "from vdeploy.live.source import parse_source\n"
        "from vdeploy.video.live_reader import LiveReader\n"
        "from vdeploy.core.errors import SourceError\n"
        "for text in ('97', 'http://127.0.0.1:9/x'):\n"
        "    try: LiveReader(parse_source(text).to_input())\n"
        "    except SourceError: pass\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    assert done.stderr == ""
